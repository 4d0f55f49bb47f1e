"""Make an API key: print it, once, and add its hash to the file that serve.py --keys reads."""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

import files
from scripts.command import Refused, run
from service.keys import LINES, Keys, Role, line


@dataclass(frozen=True, kw_only=True)
class MakeKey:
    """Make an API key, print it, and add its hash to a file. The file never holds the key itself."""

    keys: Path
    """The file of hashes; it is made where there is none."""
    name: str
    """Whose key it is, for logs and rates; several keys may have one name."""
    roles: tuple[Role, ...] = ("read",)
    """What it allows: read (ask), write (add and remove images), admin (all), metrics."""


def make_key(config: MakeKey) -> None:
    """Raises Refused, KeysUnusable for a file that the service would not read."""
    if not config.keys.name:
        raise Refused(f"--keys {config.keys}: a file is accepted, not a folder")
    key = f"fc7_{secrets.token_urlsafe(32)}"  # 256 bits; the first letters let a scanner for secrets find it
    new = line(config.name, config.roles, key)
    try:
        with files.locked(config.keys.with_name(f"{config.keys.name}.lock")):
            _append(config.keys, new)
    except files.AlreadyLocked as error:
        raise Refused(f"{config.keys}: another make_key.py writes it; run this again") from error
    except OSError as error:
        raise Refused(f"{config.keys}: cannot be written: {error.strerror}") from error
    print(key)


def _append(path: Path, new: str) -> None:
    there = b""
    if path.exists():
        Keys(path)  # what the service would refuse is not written to
        there = path.read_bytes()
    if len(there.splitlines()) >= LINES:
        raise Refused(f"{path}: has {LINES:,} lines, the most that the service reads; delete keys that nobody uses")
    if there and not there.endswith(b"\n"):
        there += b"\n"
    # Hashes of random keys tell nothing, so a container's user may read them; that others may not write is checked.
    mode = stat.S_IMODE(path.stat().st_mode) if there else 0o644
    with files.replacing(path) as file:
        os.fchmod(file.fileno(), mode)
        file.write(there + f"{new}\n".encode())


if __name__ == "__main__":
    run(MakeKey, make_key)
