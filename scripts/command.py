"""The command line of the scripts: the fields of a frozen dataclass are the flags.

A flag comes before an ``FC7_<FIELD>`` variable, a variable before the dataclass's default. Exit codes: 0 the work is
done, 2 the request cannot be met (one line on stderr), 130 interrupted. Any other error is a bug and shows its
traceback.
"""

import contextlib
import dataclasses
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_origin, get_type_hints

import tyro

__all__ = ["Refused", "parse", "run"]

Config = TypeVar("Config")
PACKAGES = ("model", "index", "service", "scripts")


class Refused(ValueError):
    """The request cannot be met; the message says why and what is accepted."""


def parse(config: type[Config], arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Build `config` from flags, then FC7_* variables, then defaults.

    Raises Refused with tyro's reason, on one line, for a flag or a variable that does not fit; SystemExit(0) after
    ``--help``.
    """
    variables: list[str] = []
    for name, kind in _fields(config).items():
        value = environment.get(f"FC7_{name.upper()}")
        if value:  # empty is unset, as compose files write it
            variables += _flag(name, kind, value)
    shown, complaint = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(complaint):
            return tyro.cli(config, args=[*variables, *arguments])
    except SystemExit as end:
        if not end.code:
            sys.stdout.write(shown.getvalue())
            raise
        raise Refused(_one_line(complaint.getvalue() or shown.getvalue())) from end


def run(config: Any, job: Callable[[Any], None]) -> NoReturn:
    """Parse the command line, run `job` on the result, and exit with one of the codes above.

    config: a dataclass, or a union of dataclasses, each of which is a subcommand.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path need not be UTF-8
    try:
        job(parse(config, sys.argv[1:], os.environ))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except PermissionError as error:  # of a file or a folder that the user named, wherever it is first touched
        _refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        _refuse(f"not enough memory: {error}")
    except Exception as error:
        if not (_is_ours(error) or type(error).__name__ == "OutOfMemoryError"):  # torch's, of a GPU: it says how much
            raise
        _refuse(str(error))
    sys.exit(0)


def _refuse(message: str) -> NoReturn:
    """Write one line, whatever lines a library's message had, and exit with 2."""
    print(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _is_ours(error: Exception) -> bool:
    """Return True for an error class of our packages: its message is for the user. Any other error is a bug."""
    return type(error).__module__.split(".")[0] in PACKAGES


def _fields(config: Any) -> dict[str, Any]:
    """Return the type of each field that a variable can set; a union of dataclasses has none."""
    if not dataclasses.is_dataclass(config):
        return {}
    kinds = get_type_hints(config)
    return {field.name: kinds[field.name] for field in dataclasses.fields(config)}


def _flag(name: str, kind: Any, value: str) -> list[str]:
    """Return a variable's flags. Only a field of several values is divided, as a shell does. Raises Refused."""
    flag, variable = name.replace("_", "-"), f"FC7_{name.upper()}"
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise Refused(f"{variable}: true or false, not {value!r}")
        return [f"--{flag}" if value.lower() == "true" else f"--no-{flag}"]
    if get_origin(kind) is not tuple:
        return [f"--{flag}={value}"]
    try:
        return [f"--{flag}", *shlex.split(value)]
    except ValueError as error:
        raise Refused(f"{variable}: {value!r} has a quote that is not closed") from error


def _one_line(box: str) -> str:
    """Return tyro's message without its frame, its hints and pydantic's, on one line."""
    lines = [line.strip("│╭╮╰╯─- ") for line in box.splitlines()]
    lines_kept = [line for line in lines[1:] if line]
    end = next(
        (i for i, line in enumerate(lines_kept) if line.startswith(("Argument helptext", "For full helptext"))),
        len(lines_kept),
    )
    return re.sub(r" \[type=.*?\] For further information visit \S+", "", " ".join(lines_kept[:end]))
