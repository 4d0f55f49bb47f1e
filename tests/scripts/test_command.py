"""Flags come before FC7_* variables, those before defaults; a bad value is one line and exit code 2."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.command import Refused, parse
from service.settings import Settings

PROGRAM = """
from dataclasses import dataclass
from pathlib import Path
from scripts.command import run
from service.port import PortTaken

@dataclass(frozen=True)
class Config:
    how: str = "well"  # what happens

def job(config):
    if config.how == "refused":
        raise PortTaken("port 8000 is taken")
    if config.how == "a path of bytes":
        print("caf\\udce9")
    if config.how == "bug":
        raise KeyError("a bug")
    if config.how == "lines":
        raise PortTaken("port 8000\\n  is taken")
    if config.how == "forbidden":
        raise PermissionError(13, "Permission denied", "/root/x")
    if config.how == "large":
        raise MemoryError("Unable to allocate 7 TiB")
    if config.how == "large for a GPU":
        import torch
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 TiB.")
    if config.how == "stopped":
        raise KeyboardInterrupt

run(Config, job)
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job with one field of each kind."""

    data: Path = Path("data/cifar10")
    views: int = 1
    resume: bool = False
    mean: Path | None = None
    checkpoint: tuple[Path, ...] = ()


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    environment = {"FC7_DATA": "from/variable", "FC7_VIEWS": "10", "FC7_RESUME": "true", "FC7_CHECKPOINT": "a b"}
    assert parse(Job, [], {}) == Job()
    assert parse(Job, [], environment) == Job(
        data=Path("from/variable"), views=10, resume=True, checkpoint=(Path("a"), Path("b"))
    )
    given = parse(Job, ["--data", "flag", "--views", "3", "--no-resume", "--checkpoint", "c"], environment)
    assert given == Job(data=Path("flag"), views=3, resume=False, checkpoint=(Path("c"),))


@pytest.mark.parametrize("value", ["/my data", "it's", "true", "--strange", "a=b", " "])
def test_a_variable_for_one_value_is_taken_whole(value: str) -> None:
    assert parse(Job, [], {"FC7_DATA": value}).data == Path(value)
    assert parse(Job, [], {"FC7_MEAN": value}).mean == Path(value)
    assert parse(Settings, [], {"FC7_BUNDLE": value, "FC7_PORT": "0"}) == Settings(bundle=Path(value), port=0)


def test_a_variable_for_several_values_is_divided_as_a_shell_does() -> None:
    assert parse(Job, [], {"FC7_CHECKPOINT": "'/my data/a' b\\ c d"}).checkpoint == (
        Path("/my data/a"),
        Path("b c"),
        Path("d"),
    )


def test_a_setting_out_of_range_is_told_without_the_librarys_jargon() -> None:
    with pytest.raises(Refused, match=r"port Input should be less than or equal to 65535$"):
        parse(Settings, ["--port", "99999"], {})


def test_an_empty_variable_is_unset() -> None:
    assert parse(Job, [], {"FC7_DATA": ""}) == Job()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--views", "ten"], {}, "Error parsing --views: invalid literal for int() with base 10: 'ten'"),
        ([], {"FC7_VIEWS": "ten"}, "Error parsing --views: invalid literal for int() with base 10: 'ten'"),
        (["--view", "1"], {}, "Unrecognized options: --view"),
        ([], {"FC7_RESUME": "yes"}, "FC7_RESUME: true or false, not 'yes'"),
        ([], {"FC7_CHECKPOINT": "it's"}, 'FC7_CHECKPOINT: "it\'s" has a quote that is not closed'),
    ],
)
def test_a_bad_argument_is_one_clear_line(arguments: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(Job, arguments, environment)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [
        ("well", 0, ""),
        ("refused", 2, "-c: port 8000 is taken"),
        ("lines", 2, "-c: port 8000 is taken"),
        ("large", 2, "-c: not enough memory: Unable to allocate 7 TiB"),
        ("large for a GPU", 2, "-c: CUDA out of memory. Tried to allocate 7 TiB."),
        ("forbidden", 2, "-c: /root/x: Permission denied"),
        ("stopped", 130, "interrupted"),
    ],
)
def test_exit_codes(how: str, code: int, line: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--how", how], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (code, line)


def test_a_path_that_is_no_text_is_printed_as_an_escape() -> None:
    command = [sys.executable, "-c", PROGRAM, "--how", "a path of bytes"]
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\udce9\n", "")


def test_a_bug_keeps_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--how", "bug"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
