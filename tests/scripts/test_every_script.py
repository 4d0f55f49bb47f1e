"""What the README says of every script: help with defaults, and one line and exit code 2 for a bad flag."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SCRIPTS = {"__init__", "command", "progress"}
SCRIPTS = sorted(file.stem for file in (ROOT / "scripts").glob("*.py") if file.stem not in NOT_SCRIPTS)
BENCHMARKS = ("train", "loader", "search", "retrieval")
COMMANDS = [(name,) for name in SCRIPTS] + [("benchmark", benchmark) for benchmark in BENCHMARKS]


def called(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a script as `python scripts/NAME.py ...` does, but in this process, which has imported torch already."""
    monkeypatch.setattr(sys, "argv", [f"scripts/{command[0]}.py", *command[1:]])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts" / f"{command[0]}.py"), run_name="__main__")
    assert isinstance(end.value.code, int)
    return end.value.code


def options(said: str) -> dict[str, str]:
    """Each option of a help text, and what is said of it."""
    found = re.split(r"^  (--[a-z0-9-]+)", said, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(found[::2], found[1::2], strict=True)}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_a_default_for_every_option_and_says_what_a_number_counts(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called((*command, "--help"), monkeypatch) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert re.match(rf"usage: \S*scripts/{command[0]}\.py ", said.out)
    listed = options(said.out)
    assert listed or command == ("benchmark",)  # its options are those of its subcommands
    for name, text in listed.items():
        assert re.search(r"\((default: .*|required)\)$", text), f"{name}: {text}"
        assert not re.match(r"\S*(INT|FLOAT)\S* \((default|required)", text), f"{name}: a number of what?"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_bad_flag_is_one_line_and_exit_code_2(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called((*command, "--no-such-flag"), monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"{command[0]}.py: ")
    assert "no-such-flag" in line
