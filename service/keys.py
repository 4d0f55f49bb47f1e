"""API keys: a file of their hashes, read again when it changes.

A line is `NAME ROLES HASH`: the roles with commas between, the SHA-256 of the key in hexadecimal. Empty lines and lines
that begin with # are left out. Several lines may have one name: an old key and the new one that replaces it.

A plain SHA-256 is enough, because scripts/make_key.py draws 256 random bits: nobody can try them all, however fast the
hash. The slow hashes are for passwords, which people choose, and would cost every request their time.
"""

import hashlib
import hmac
import logging
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from starlette.exceptions import HTTPException

__all__ = ["Closed", "Key", "KeyNeeded", "Keys", "KeysUnusable", "NotAllowed", "Role", "line"]

Role = Literal["read", "write", "admin", "metrics"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LINES = 1_000  # in a file
BYTES = 200_000  # of a file

Stamp = tuple[int, int, int] | None  # of a file: inode, time of change, size; None where there is none


class KeysUnusable(ValueError):
    """The file of keys cannot be used; the message says why and what is accepted."""


class KeyNeeded(HTTPException):
    """The request has no key, or one that is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, {"WWW-Authenticate": 'Bearer realm="fc7"'})


class NotAllowed(Exception):
    """The key has not the role that this request needs."""


class Closed(Exception):
    """Without keys nobody may do this."""


@dataclass(frozen=True)
class Key:
    """Who has it, what it allows, and its SHA-256."""

    name: str
    roles: frozenset[Role]
    digest: bytes


class Keys:
    """The keys of a file. A change counts from the next request on; a file that cannot be used changes nothing."""

    def __init__(self, path: Path) -> None:
        """Raises KeysUnusable."""
        self._path, self._stamp = path, _stamp(path)
        self._keys = _read(path)
        self._current = True

    def find(self, key: str) -> Key | None:
        """Return the entry of a key, None if there is none. Every entry is compared, in constant time each."""
        digest, found = hashlib.sha256(key.encode()).digest(), None
        self._refresh()
        for entry in self._keys:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found

    def is_current(self) -> bool:
        """Return whether the keys in use are those of the file."""
        self._refresh()
        return self._current

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        log = logging.getLogger(__name__)
        try:
            self._keys = _read(self._path)
        except KeysUnusable as error:
            self._current = False
            log.error("%s; the keys that were read before stay in use", error)
        else:
            self._current = True
            log.info("%s: %d keys read", self._path, len(self._keys))


def line(name: str, roles: tuple[Role, ...], key: str) -> str:
    """Return the line of a key. Raises KeysUnusable for a name that a line cannot hold."""
    text = f"{name} {','.join(roles)} {hashlib.sha256(key.encode()).hexdigest()}"
    _parse(text, "the new line")
    return text


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size  # chmod and chown count as changes, too


def _read(path: Path) -> tuple[Key, ...]:
    """Return the keys of a file. Raises KeysUnusable."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe without a writer would block
            kind = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(kind):
                raise KeysUnusable(f"{path}: not a file")
            if kind & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeysUnusable(f"{path}: other users may write it, and so give themselves keys: chmod go-w {path}")
            data = file.read(BYTES + 1)
    except OSError as error:
        raise KeysUnusable(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > BYTES:
        raise KeysUnusable(f"{path}: more than {BYTES:,} bytes")
    lines = data.decode("ascii", "replace").splitlines()
    if len(lines) > LINES:
        raise KeysUnusable(f"{path}: more than {LINES:,} lines")
    wanted = ((number, text) for number, text in enumerate(lines, 1) if text.strip() and not text.startswith("#"))
    return tuple(_parse(text, f"{path}, line {number}") for number, text in wanted)


def _parse(text: str, where: str) -> Key:
    words = text.split()
    if len(words) != 3 or not NAME.fullmatch(words[0]) or not re.fullmatch("[0-9a-f]{64}", words[2]):
        raise KeysUnusable(f"{where}: accepted is NAME ROLES HASH, as scripts/make_key.py writes it")
    roles = tuple(role for role in ROLES if role in words[1].split(","))
    if unknown := set(words[1].split(",")) - set(roles):
        raise KeysUnusable(f"{where}: no role {min(unknown)!r}; accepted are {', '.join(ROLES)}")
    return Key(words[0], frozenset(roles), bytes.fromhex(words[2]))
