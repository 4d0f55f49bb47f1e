"""Collections of images to embed or to pack: items in the order of their ids, read by position.

A job that stops can therefore continue at any item. An encoded image is a file, or a part of an archive, which is not
unpacked.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.packed import PackedSet, Split
from model.data.threads import on_all_cores
from model.preprocess import BadImage, stored_image
from model.thumbnails import stored_image_and_thumbnail, thumbnail

__all__ = [
    "ArraySource",
    "EncodedImage",
    "EncodedSource",
    "Item",
    "PackedSource",
    "Report",
    "Source",
    "packed_source",
    "printable",
]

CONTROL = re.compile("[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]")
MAX_BYTES = 1 << 28  # of an encoded image; each core reads one into memory
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


class EncodedImage(NamedTuple):
    """Where one encoded image lies: a file, or a region of an archive. (A tuple: a million of them take a second.)"""

    name: str
    label: int
    file: str
    offset: int = 0  # bytes
    length: int | None = None  # bytes; None: the whole file, whatever its size
    problem: str | None = None  # why there is nothing to read

    def state(self) -> tuple[int | str, ...]:
        """What changes when the image does, as it is now: the region, or the file's size, time of change and right."""
        if self.problem is not None:
            return (self.problem,)
        if self.length is not None:
            return self.offset, self.length
        try:
            about = os.stat(self.file)
        except OSError as error:
            return (error.errno or 0,)
        return about.st_size, about.st_mtime_ns, os.access(self.file, os.R_OK)

    def data(self) -> bytes:
        """The encoded bytes. Raises OSError; BadImage for a file that is too large, or no ordinary one: not opened."""
        _ordinary(os.stat(self.file))
        with open(self.file, "rb", opener=_at_once) as file:
            size = _ordinary(os.fstat(file.fileno()))
            length = size if self.length is None else self.length
            if length > MAX_BYTES:
                raise BadImage(f"{length:,} bytes are no image's")
            file.seek(self.offset)
            return file.read(length)


@dataclass(frozen=True)
class EncodedSource:
    """Encoded images, decoded on all cores."""

    images: Sequence[EncodedImage]
    classes: tuple[str, ...]
    size: int
    ignored: Mapping[str, int] = field(default_factory=dict)  # files beside them, by suffix: listing.counted

    def __len__(self) -> int:
        return len(self.images)

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of names, labels, and regions or sizes and times of change, as they are now."""
        images = [(p.name, p.label, p.state()) for p in self.images[start:stop]]
        return hashlib.sha256(json.dumps([self.size, self.classes, images]).encode()).hexdigest()

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a position in `images`."""
        return on_all_cores(partial(self._item, thumbnails), range(start, min(stop, len(self))))

    def _item(self, thumbnails: bool, image_id: int) -> Item:
        encoded = self.images[image_id]
        if encoded.problem is not None:
            return Item(image_id, encoded.name, encoded.label, None, encoded.problem)
        try:
            data = encoded.data()
            image, thumb = (
                stored_image_and_thumbnail(data, self.size) if thumbnails else (stored_image(data, self.size), None)
            )
        except BadImage as error:
            return Item(image_id, encoded.name, encoded.label, None, str(error))
        except OSError as error:
            return Item(image_id, encoded.name, encoded.label, None, f"the file cannot be read: {error.strerror}")
        return Item(image_id, encoded.name, encoded.label, image, None, thumb)


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


def _ordinary(about: os.stat_result) -> int:
    """Return a file's size in bytes. Raises BadImage for a pipe or a device, which would be waited for."""
    if not stat.S_ISREG(about.st_mode):
        raise BadImage("not an ordinary file")
    return about.st_size


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting, should it have become a pipe since it was looked at."""
    return os.open(path, flags | os.O_NONBLOCK)
