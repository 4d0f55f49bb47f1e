"""A script's --help, asked in this process, which has imported torch already."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SCRIPTS = {"__init__", "command"}
SCRIPTS = sorted(file.stem for file in (ROOT / "scripts").glob("*.py") if file.stem not in NOT_SCRIPTS)
BENCHMARKS = ("train", "forward", "loader", "embed", "search", "features", "index", "retrieval", "precision", "service")
COMMANDS = [(name,) for name in SCRIPTS] + [("benchmark", benchmark) for benchmark in BENCHMARKS]


def called(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `python scripts/NAME.py ...` and return its exit code."""
    monkeypatch.setattr("sys.argv", [f"scripts/{command[0]}.py", *command[1:]])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts" / f"{command[0]}.py"), run_name="__main__")
    assert isinstance(end.value.code, int)
    return end.value.code


def options(said: str) -> dict[str, str]:
    """Each option of a help text, a switch under both its names, and what is said of it."""
    found = re.split(r"^  (--[a-z0-9-]+)(?:, (--no-[a-z0-9-]+))?", said, flags=re.MULTILINE)[1:]
    named = zip(found[::3], found[1::3], found[2::3], strict=True)
    return {name: " ".join(text.split()) for one, other, text in named for name in (one, other) if name}
