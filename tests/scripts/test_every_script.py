"""What the README says of every script: help with defaults, and one line and exit code 2 for a bad flag."""

import re

import pytest

from tests.scripts.helptext import COMMANDS, called, options


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
