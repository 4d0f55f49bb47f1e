"""Stored images as a collection: the rows of an array, or of a packed dataset's split."""

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import repeat
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.data.packed import PackedSet, Split
from model.data.sources import Item
from model.data.threads import on_all_cores
from model.thumbnails import thumbnail

__all__ = ["ArraySource", "PackedSource", "packed_source"]


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
