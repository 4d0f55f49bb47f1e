"""Collections of images to embed or to pack: items in the order of their ids, read by position.

A job that stops can therefore continue at any item.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.packed import PackedSet, Split
from model.data.threads import on_all_cores
from model.thumbnails import thumbnail

__all__ = [
    "ArraySource",
    "Item",
    "PackedSource",
    "Report",
    "Source",
    "packed_source",
    "printable",
]

CONTROL = re.compile("[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]")
Report = Callable[[str, int, int], None]  # how far a long job is: of what, how much is done, how much in all


@dataclass(frozen=True)
class Item:
    """One image of a collection, or the reason why it cannot be read: one of `image` and `skipped` is None."""

    image_id: int  # position in the collection; a skipped image keeps its own
    name: str  # relative path, "frog/0001.png"
    label: int  # class id, -1 unknown
    image: NDArray[np.uint8] | None  # (S, S, 3)
    skipped: str | None  # the reason
    thumbnail: bytes | None = None  # an encoded image for the page, where `read` was asked for thumbnails


class Source(Protocol):
    """A collection of images in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position in them."""

    @property
    def size(self) -> int:
        """S, pixels."""

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of what the items start <= image_id < stop are made from: another one when any of them has changed.

        Nothing is decoded. Taken before `read`, it never belongs to newer files than the items do.
        """

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop, in order. One that cannot be read has a reason, and no image."""


@dataclass(frozen=True)
class ArraySource:
    """Images that are in memory already, (n, S, S, 3) uint8, with labels (n,) and names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: Sequence[str]
    classes: tuple[str, ...]
    fingerprint: str

    @property
    def size(self) -> int:
        """S, pixels."""
        return int(self.images.shape[1])

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of the collection's fingerprint and the rows."""
        return _of_rows(self.fingerprint, start, stop)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a row."""
        return _items(start, self.images[start:stop], self.names, self.labels, thumbnails)


@dataclass(frozen=True)
class PackedSource:
    """One split of a packed dataset; `image_id` is the row."""

    classes: tuple[str, ...]
    size: int
    fingerprint: str
    split: Split

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of the split's fingerprint and the rows."""
        return _of_rows(self.fingerprint, start, stop)

    def __len__(self) -> int:
        return len(self.split)

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop. None is skipped: packing has left out what cannot be decoded."""
        images = self.split.images(slice(start, min(stop, len(self))))
        return _items(start, images, self.split.names, self.split.labels, thumbnails)


def packed_source(packed: PackedSet, split: str = "train") -> PackedSource:
    """Return a split of a packed dataset as a collection. Raises BadDataset where there is no such split."""
    fingerprint = hashlib.sha256(f"{packed.fingerprint} {split}".encode()).hexdigest()
    return PackedSource(packed.classes, packed.size, fingerprint, packed.split(split))


def _items(
    start: int, images: NDArray[np.uint8], names: Sequence[str], labels: NDArray[np.int64], thumbnails: bool
) -> list[Item]:
    """The items of rows `start` on, whose images are given; names and labels are those of all rows."""
    small = on_all_cores(thumbnail, images) if thumbnails else [None] * len(images)
    rows = enumerate(zip(images, small, strict=True), start)
    return [Item(row, names[row], int(labels[row]), image, None, shown) for row, (image, shown) in rows]


def _of_rows(fingerprint: str, start: int, stop: int) -> str:
    return hashlib.sha256(f"{fingerprint} {start} {stop}".encode()).hexdigest()


def printable(name: str) -> str:
    r"""Return a name as one line of UTF-8; different names stay different.

    Control characters, which terminals would obey, and bytes that are no text become escapes such as \n and \xff; a
    backslash is doubled.
    """
    if name.isprintable() and "\\" not in name:
        return name
    text = os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return CONTROL.sub(_escaped, text)


def _escaped(control: re.Match[str]) -> str:
    """As \\u0085 beyond ASCII, because \\x85 is a byte that is no text."""
    code = ord(control[0])
    return f"\\u{code:04x}" if code > 0x7F else control[0].encode("unicode_escape").decode()
