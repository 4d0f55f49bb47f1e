"""Files that survive a kill and a power cut, locks that end with their process, and what a full disk is called.

A file is written beside its place, synced, renamed over the old one, and its folder is synced: a reader finds the old
file or the new one, never a part, and what was reported as written is there after a power cut. Both `model` and `index`
stand on this module; it knows neither.
"""

import errno
import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

__all__ = [
    "NPY_HEADER",
    "PART",
    "AlreadyLocked",
    "is_full",
    "link",
    "locked",
    "make_folder",
    "no_space",
    "npy_header",
    "replace",
    "replacing",
    "sync",
    "translated",
    "write_all",
]

PART = ".part"  # what a file is called while it is written
NPY_HEADER = 128  # bytes before the numbers in a .npy file of ours, whatever the number of rows

# What file systems without hard links answer (exFAT, many network and object-store mounts).
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class AlreadyLocked(Exception):
    """Another process holds the lock."""


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, where they are missing, and force their names to the disk. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a new binary file that takes the place of `path` when the block ends without an error.

    After an error the old file stays and nothing is left beside it. Raises OSError.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Write a whole file in one step. Raises OSError; the old file stays."""
    with replacing(path) as file:
        file.write(data)


def link(file: Path, name: Path) -> None:
    """Give a finished `file` the second name `name`, in one step: a hard link, or a copy where there are no links.

    What is removed later under the first name stays under the second. Raises OSError.
    """
    part = name.with_name(name.name + PART)
    part.unlink(missing_ok=True)
    try:
        os.link(file, part)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(file, part)
        sync(part)
    part.replace(name)
    part.unlink(missing_ok=True)  # a rename onto another name of the same file does nothing, says POSIX
    sync(name.parent)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write every byte: an unbuffered file may take fewer than it is given. Raises OSError."""
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else memoryview(b"")  # an empty array's view cannot be cast
    while view:
        view = view[file.write(view) :]


def npy_header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file: NPY_HEADER bytes, so that it can be filled in when all rows are written.

    Raises ValueError for a shape of so many dimensions that it does not fit.
    """
    header = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    if header.tell() != NPY_HEADER:
        raise ValueError(f"the header of {shape} takes {header.tell()} bytes, not {NPY_HEADER}")
    return header.getvalue()


def locked(path: Path) -> IO[bytes]:
    """Open and lock `path` for this process alone, until the returned file is closed or the process ends.

    Raises AlreadyLocked, OSError.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise AlreadyLocked(f"{path}: another process holds this lock") from error
    except BaseException:
        file.close()
        raise
    return file


def is_full(error: OSError) -> bool:
    """Return whether the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_space(place: Path) -> str:
    """Return what a person is told when the disk is full."""
    return f"{place}: no space left on the disk; make room and run it again: what was finished is kept"


@contextmanager
def translated(place: Path, cannot: type[Exception], full: type[Exception]) -> Iterator[None]:
    """Turn an OSError into `full` where the disk is full, else into `cannot`; the message names the place."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(no_space(place)) from error
        raise cannot(f"{error.filename or place}: cannot be written: {error.strerror or error}") from error
