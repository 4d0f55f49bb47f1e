"""Collections of images to embed or to pack: items in the order of their ids, read by position.

A job that stops can therefore continue at any item.
"""

import hashlib
import os
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from model.data.packed import PackedSet, Split
from model.data.threads import on_all_cores
from model.thumbnails import thumbnail

__all__ = [
    "ArraySource",
    "Entry",
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
    """One image of a collection, as it was read. Without `image` it could not be, or its content was known already."""

    image_id: int  # position in the collection
    name: str  # relative path, "frog/0001.png"
    label: int  # class id, -1 unknown
    image: NDArray[np.uint8] | None  # (S, S, 3)
    skipped: str | None  # the reason why it cannot be read
    state: str = ""  # as in Source.entries, before it was read
    content: str | None = None  # SHA-256 of the encoded bytes, or of the stored pixels where there are no others
    thumbnail: bytes | None = None  # an encoded image for the page


class Entry(NamedTuple):
    """What an index keeps of an item whether it has been embedded or not; the fields are Item's."""

    image_id: int
    name: str
    label: int
    state: str
    content: str | None  # None where it was skipped
    skipped: str | None


class Source(Protocol):
    """A collection of images in a fixed order. Names are unique."""

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

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Name, label and state of each image, in order. A state is another one when the image has changed.

        Nothing is read: a file's state is its size and time of change, that of a packed row is the dataset's.
        """

    def subset(self, positions: Sequence[int]) -> "Source":
        """Return the images at these positions as a collection of their own, in this order."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        """Return the items start <= image_id < stop, in order. One that cannot be read has a reason, and no image.

        With `known`, contents and thumbnails are made too, as an index wants them, and an item whose content is among
        the known ones has no image.
        """


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
        return _of(self.fingerprint, start, stop)

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Each row's state is the collection's fingerprint."""
        return zip(self.names, self.labels.tolist(), repeat(self.fingerprint))

    def subset(self, positions: Sequence[int]) -> Self:
        """Return a copy of these rows as a collection."""
        rows = np.asarray(positions, np.int64)
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            names=[self.names[row] for row in rows],
            fingerprint=_of(self.fingerprint, rows.tobytes()),
        )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a row."""
        return _items(self, start, self.images[start:stop], known)


@dataclass(frozen=True)
class PackedSource:
    """One split of a packed dataset, or some rows of it; `image_id` is the position in `rows`."""

    classes: tuple[str, ...]
    size: int
    fingerprint: str
    split: Split
    rows: NDArray[np.int64] | None = None  # None: all

    @cached_property
    def names(self) -> Sequence[str]:
        names = self.split.names
        return names if self.rows is None else [names[row] for row in self.rows]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self.split.labels if self.rows is None else self.split.labels[self.rows]

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of the split's fingerprint and the rows."""
        if self.rows is None:
            return _of(self.fingerprint, start, stop)
        return _of(self.fingerprint, self.rows[start:stop].tobytes())

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Each row's state is the split's fingerprint."""
        return zip(self.names, self.labels.tolist(), repeat(self.fingerprint))

    def subset(self, positions: Sequence[int]) -> Self:
        """Return these rows as a collection; images stay on disk."""
        rows = np.asarray(positions, np.int64)
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        """Return the items start <= image_id < stop. None is skipped: packing has left out what cannot be decoded."""
        rows = slice(start, min(stop, len(self)))
        return _items(self, start, self.split.images(rows if self.rows is None else self.rows[rows]), known)


def packed_source(packed: PackedSet, split: str = "train") -> PackedSource:
    """Return a split of a packed dataset as a collection. Raises BadDataset where there is no such split."""
    fingerprint = hashlib.sha256(f"{packed.fingerprint} {split}".encode()).hexdigest()
    return PackedSource(packed.classes, packed.size, fingerprint, packed.split(split))


def _items(
    source: ArraySource | PackedSource, start: int, images: NDArray[np.uint8], known: Container[str] | None
) -> list[Item]:
    """The items of rows `start` on, whose images are given."""
    if known is None:
        found: list[tuple[str | None, bytes | None]] = [(None, None)] * len(images)
    else:
        found = on_all_cores(partial(_content_and_thumbnail, known), images)
    items = []
    for row, (image, (content, shown)) in enumerate(zip(images, found, strict=True), start):
        is_known = content is not None and shown is None
        name, label, pixels = source.names[row], int(source.labels[row]), None if is_known else image
        items.append(Item(row, name, label, pixels, None, source.fingerprint, content, shown))
    return items


def _content_and_thumbnail(known: Container[str], image: NDArray[np.uint8]) -> tuple[str, bytes | None]:
    content = hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
    return content, None if content in known else thumbnail(image)


def _of(fingerprint: str, *rows: int | bytes) -> str:
    return hashlib.sha256(f"{fingerprint} {' '.join(map(str, rows))}".encode()).hexdigest()


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
