"""OpenVINO tells nobody that it was started."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

ROOT = Path(__file__).parents[3]
STARTED = "import sys, model.forward.openvino_engine; print('openvino_telemetry.main' in sys.modules)"


@pytest.mark.slow
def test_openvino_sends_nothing_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    """Where it sends, it keeps the number that it goes by in ~/intel."""
    variables = environment(HOME=str(tmp_path), CI="", PYTHONPATH=str(ROOT))
    started = [sys.executable, "-c", STARTED]
    done = subprocess.run(started, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
    assert list(tmp_path.iterdir()) == []
