"""Tar archives from anywhere, walked forward only."""

import tarfile
from collections.abc import Iterator

__all__ = ["members"]


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
