"""Collections of images to embed or to pack: items in the order of their ids, read by position.

A job that stops can therefore continue at any item. An encoded image is a region of a file: a whole file of a class
folder, or a part of an archive, which is not unpacked.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Where one encoded image lies: a region of a file."""

    name: str
    label: int
    file: str
    offset: int  # bytes
    length: int  # bytes
    stamp: int = 0  # the file's time of change in ns, where the file is the image

    def state(self) -> tuple[int, ...]:
        """What changes when the image does, as it is now: the region, or the file's size, time of change and right."""
        if self.stamp == 0:
            return self.offset, self.length
        try:
            about = os.stat(self.file)
        except OSError as error:
            return (error.errno or 0,)
        return about.st_size, about.st_mtime_ns, os.access(self.file, os.R_OK)

    def data(self) -> bytes:
        """The encoded bytes. Raises OSError."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class EncodedSource:
    """Encoded images, decoded on all cores."""

    images: Sequence[EncodedImage]
    classes: tuple[str, ...]
    size: int

    def __len__(self) -> int:
        return len(self.images)

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of names, labels, and regions or sizes and times of change, as they are now."""
        digest = hashlib.sha256(json.dumps([self.size, self.classes]).encode())
        for p in self.images[start:stop]:
            digest.update(json.dumps([p.name, p.label, *p.state()]).encode())
        return digest.hexdigest()

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a position in `images`."""
        return on_all_cores(partial(self._item, thumbnails), range(start, min(stop, len(self))))

    def _item(self, thumbnails: bool, image_id: int) -> Item:
        encoded = self.images[image_id]
        if encoded.length > MAX_BYTES:
            return Item(image_id, encoded.name, encoded.label, None, f"{encoded.length:,} bytes are no image's")
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
    """Return a name as one line of UTF-8: line breaks and other bytes, which file systems allow, become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\n", "\\n").replace("\r", "\\r")
