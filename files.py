"""Atomic writes, locks, .npy headers and the message for a full disk. `model` and `index` both use this module.

To write a file, write it under another name, sync it, rename it over the old file, and sync the folder. A reader then
finds the whole old file or the whole new one.
"""

import errno
import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

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
    "replace_array",
    "replacing",
    "sync",
    "translated",
    "write_all",
]

PART = ".part"  # ends the name of a file that is being written
NPY_HEADER = 128  # bytes before the numbers in the .npy files that this code writes, for any number of rows

# The errors of file systems that have no hard links (exFAT, many network and object-store mounts).
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}

# The errors of file systems that cannot sync a folder (some network mounts).
NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EOPNOTSUPP}


class AlreadyLocked(Exception):
    """Another process holds the lock."""


def sync(path: Path) -> None:
    """Write a file's bytes, or a folder's entries, through to the disk. Raises OSError.

    A folder is left as it is on a file system that cannot sync folders.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC or not path.is_dir():
            raise
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
    """Open a new binary file, which replaces `path` when the `with` block ends.

    After an error the old file stays and the new one is removed. Raises OSError.
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
    """Replace the file's contents by `data`. After an error the old file stays. Raises OSError."""
    with replacing(path) as file:
        file.write(data)


def replace_array(path: Path, array: NDArray[Any]) -> None:
    """Replace `path` by a .npy file of `array`, in C order. After an error the old file stays. Raises OSError.

    np.save gives the same bytes, but on a full disk its error does not say so, and when only the last bytes find no
    room, it raises none.
    """
    with replacing(path) as file:
        file.write(npy_header(array.dtype, array.shape))
        write_all(file, np.ascontiguousarray(array).data)


def link(file: Path, name: Path) -> None:
    """Give `file` the second name `name`: a hard link, or a copy where the file system has no links.

    The second name stays when the first is removed. A file that already has the name `name` is replaced. Raises
    OSError.
    """
    part = name.with_name(name.name + PART)
    part.unlink(missing_ok=True)
    try:
        _link_or_copy(file, part)
        part.replace(name)
    finally:
        part.unlink(missing_ok=True)  # also when all went well: POSIX lets a rename of one file's two names do nothing
    sync(name.parent)


def _link_or_copy(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(file, name)
        sync(name)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all bytes; one call of an unbuffered file's `write` may write fewer. Raises OSError."""
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else memoryview(b"")  # an empty array's view cannot be cast
    while view:
        view = view[file.write(view) :]


def npy_header(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file, NPY_HEADER bytes long for any number of rows.

    So the rows can be written first, and the header when their number is known. Raises ValueError for a shape with so
    many dimensions that the header is longer.
    """
    header = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    if header.tell() != NPY_HEADER:
        raise ValueError(f"the header of {shape} takes {header.tell()} bytes, not {NPY_HEADER}")
    return header.getvalue()


def locked(path: Path) -> IO[bytes]:
    """Lock `path` for this process, until the returned file is closed or the process ends.

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
    """Return True when the disk is full or the user's quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_space(place: Path) -> str:
    """Return the message for a full disk."""
    return f"{place}: no space left on the disk; make room and run it again: what was finished is kept"


@contextmanager
def translated(place: Path, cannot: type[Exception], full: type[Exception]) -> Iterator[None]:
    """Turn an OSError into `full` when the disk is full, else into `cannot`. The message names the file or `place`."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(no_space(place)) from error
        raise cannot(f"{error.filename or place}: cannot be written: {error.strerror or error}") from error
