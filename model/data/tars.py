"""Tar archives from anywhere, walked forward only."""

import contextlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from model.data.mapped import BadDataset
from model.data.sources import printable

__all__ = ["archive_errors", "ends", "files_of", "members", "members_of"]

# Bytes of one header; a long name, or a list of attributes, has a few hundred. Python before 3.11.10 and 3.12.6 can be
# made to take the square of it in time and in memory (CVE-2024-6232).
MAX_HEADER = 1 << 14


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, in order. Raises tarfile.TarError.

    Python before 3.11.14, 3.12.12 and 3.13.6 follows a negative size back and repeats a member for ever
    (CVE-2025-8194); that is an error here.
    """
    reached = -1
    for member in tar:
        if member.offset <= reached or member.size < 0:
            raise tarfile.ReadError(f"damaged at byte {member.offset:,}")
        reached = member.offset
        yield member


def files_of(path: Path, file: BinaryIO, start: int, stop: int) -> Iterator[tarfile.TarInfo]:
    """The members of `members_of` that are files: no folders, links or devices."""
    return (member for member in members_of(path, file, start, stop) if member.isfile())


def members_of(path: Path, file: BinaryIO, start: int, stop: int) -> Iterator[tarfile.TarInfo]:
    """All members of the uncompressed tar in bytes `start` to `stop`; offsets count from the file's beginning.

    Raises BadDataset for a member that reaches beyond `stop`, for a sparse file, and where a header is damaged: tarfile
    ends in silence at what is no header. Raises tarfile.TarError, too, as for a header of more than MAX_HEADER bytes.
    """
    end = start
    file.seek(start)
    with tarfile.open(fileobj=cast(BinaryIO, _Headers(file)), mode="r:") as tar:
        for member in members(tar):
            if member.offset >= stop:
                break
            if member.issparse():  # its size is that of the whole, of which the holes are not in the tar
                raise BadDataset(f"{path}: {printable(member.name)} is a sparse file; make the tar without --sparse")
            if member.offset_data + member.size > stop:
                raise BadDataset(f"{path}: ends within {printable(member.name)}; the download is not complete")
            end = tar.offset
            yield member
            cast(Any, tar).members.clear()  # else it keeps them all: a GB for a million
    file.seek(end)
    if file.read(min(tarfile.BLOCKSIZE, max(0, stop - end))).strip(b"\0"):
        raise BadDataset(f"{path}: damaged at byte {end:,}")


def ends(file: BinaryIO) -> bool:
    """Return whether a tar's last block is of zeros. One that is cut between two files is otherwise a shorter tar."""
    file.seek(-min(tarfile.BLOCKSIZE, file.seek(0, 2)), 2)
    return not file.read().strip(b"\0")


class _Headers:
    """A tar's file for tarfile, which reads a long header into memory as a whole, whatever size it says it has."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        """Raises tarfile.ReadError for more than a header."""
        if size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._read(size)


@contextlib.contextmanager
def archive_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong with an archive into a BadDataset that names it."""
    try:
        yield
    except BadDataset:
        raise
    except (tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError, IndexError, OverflowError) as error:
        # tarfile raises the last four: for numbers that are none, headers that follow one another without end, a list
        # of a sparse file's parts that is cut short, and sizes beyond all files
        raise BadDataset(f"{path}: not a whole archive ({error})") from error
    except OSError as error:
        raise BadDataset(f"{path}: {error.strerror or error}") from error
