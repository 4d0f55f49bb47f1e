"""A minute of scripts/soak.py, half of it under load: faults, strangers, killed decoders and swaps at the same time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_minute_of_load_and_faults_costs_no_answer() -> None:
    command = [sys.executable, "scripts/soak.py", "--minutes", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    counted = dict(re.findall(r"^\| ([^|]+?) +\| ([^|]+?) +\|$", done.stdout, re.MULTILINE))
    assert (counted["wrong answers"], counted["lost answers"], counted["500, 502, 504"]) == ("0", "0", "0")
    assert int(counted["right answers"].replace(",", "")) > 300
    assert len(counted["swaps, seconds until each was in use"].split(", ")) == 3
