"""Tar archives from anywhere, walked forward only."""

import contextlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from model.data.mapped import BadDataset

__all__ = ["archive_errors", "files_of", "members"]


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
    """The files of the uncompressed tar in bytes `start` to `stop`; their offsets count from the file's beginning.

    Raises BadDataset for a member that reaches beyond `stop`, and where a header is damaged: tarfile ends in silence
    at what is no header.
    """
    end = start
    file.seek(start)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in members(tar):
            if member.offset >= stop:
                break
            if member.offset_data + member.size > stop:
                raise BadDataset(f"{path}: ends within {member.name}; the download is not complete")
            end = member.offset_data
            if member.isfile():
                end += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                yield member
    file.seek(end)
    if file.read(min(tarfile.BLOCKSIZE, max(0, stop - end))).strip(b"\0"):
        raise BadDataset(f"{path}: damaged at byte {end:,}")


@contextlib.contextmanager
def archive_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong with an archive into a BadDataset that names it."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadDataset(f"{path}: not a whole archive ({error})") from error
    except OSError as error:
        raise BadDataset(f"{path}: {error.strerror or error}") from error
