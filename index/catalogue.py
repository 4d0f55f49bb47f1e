"""The catalogue: the names and the label of each image, and what became of each input. One SQLite file a generation.

The thumbnails lie in the segments: they are most of the bytes, and an image's never changes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.database import Database
from index.segments import Segment

__all__ = ["Catalogue", "Gone", "Identity", "Image", "Named", "NoSuchImage", "Skipped"]

Identity = Callable[[int, int], str]  # of the images start <= i < stop of a work list as they are now: Block.identity
NAMES = """
SELECT names.name, classes.name, state, outcome, image_id, reason
FROM names JOIN sources USING (source_id) LEFT JOIN classes ON class_id = label
"""
KEY = "CAST(? AS TEXT)"  # a source's key is a path, which need not be UTF-8
PAGE = 4096  # rows that are fetched at a time


class NoSuchImage(LookupError):
    """No image with this id is in the collection: it was removed, could not be read, or was never there."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"no image {image_id} in this collection")


@dataclass(frozen=True)
class Image:
    """One indexed image. Files with equal bytes are one image with several names."""

    image_id: int
    name: str  # the first of `names`
    names: tuple[str, ...]  # relative paths in their sources, in the order in which they came
    label: str | None  # class name, of the first of `names`
    size: int  # bytes of the thumbnail
    sha256: str  # of the thumbnail
    thumbnail: bytes  # PNG or JPEG
    content: str  # SHA-256 of the encoded image


@dataclass(frozen=True)
class Named:
    """One input of a source, and what became of it when that source was last looked at."""

    name: str
    label: str | None  # class name
    state: str  # changes when the file does
    outcome: str  # indexed, duplicate, skipped, kept, excluded
    image_id: int | None  # None where skipped or excluded
    reason: str | None  # why it was skipped


@dataclass(frozen=True)
class Gone:
    """A name that the last run took away."""

    source: str
    name: str
    image_id: int | None
    outcome: str  # removed: its image, too; renamed: the image has a new name; dropped: neither


@dataclass(frozen=True)
class Skipped:
    """One file that could not be read."""

    source: str
    name: str
    reason: str


class Catalogue:
    """A published catalogue, read only. Any thread may use it. It stays readable when its generation is removed."""

    def __init__(self, path: Path, segments: Sequence[Segment]) -> None:
        """Open a file, for the images of these segments. Raises BadBundle, as every method does for a damaged file."""
        self._database, self._segments = Database(path), segments
        self._firsts = [int(segment.ids[0]) for segment in segments]

    def image(self, image_id: int) -> Image:
        """Return one indexed image. Raises NoSuchImage."""
        query = "SELECT content FROM images WHERE image_id = ?"
        if not (found := self._database.rows(query, image_id)):
            raise NoSuchImage(image_id)
        names = self._database.rows(f"{NAMES} WHERE image_id = ? ORDER BY name_id", image_id)
        segment = self._segments[int(np.searchsorted(self._firsts, image_id, side="right")) - 1]
        query = "SELECT size, sha256, thumbnail FROM thumbnails WHERE image_id = ?"
        ((size, sha256, thumbnail),) = segment.thumbnails.rows(query, image_id)
        return Image(
            image_id=image_id,
            name=names[0][0],
            names=tuple(row[0] for row in names),
            label=names[0][1],
            size=size,
            sha256=sha256,
            thumbnail=thumbnail,
            content=found[0][0],
        )

    def labels(self) -> NDArray[np.int64]:
        """Return class ids (n,) int64 in the order of Generation.ids; -1 is unknown."""
        first = "SELECT image_id, ifnull(label, -1), min(name_id) FROM names WHERE image_id NOT NULL GROUP BY image_id"
        return np.array([row[1] for row in self._database.rows(f"{first} ORDER BY image_id")], np.int64)

    def classes(self) -> list[str]:
        """Return the name of each class id; two may have one name."""
        return [row[0] for row in self._database.rows("SELECT name FROM classes ORDER BY class_id")]

    def duplicates(self) -> list[tuple[int, tuple[str, ...]]]:
        """Return the images that have several names, with these, in the order of image ids."""
        several = "SELECT image_id FROM names WHERE image_id NOT NULL GROUP BY image_id HAVING count(*) > 1"
        query = f"SELECT image_id, name FROM names WHERE image_id IN ({several}) ORDER BY image_id, name_id"
        groups = groupby(self._database.rows(query), itemgetter(0))
        return [(image_id, tuple(name for _, name in rows)) for image_id, rows in groups]

    def sources(self) -> list[str]:
        """Return the keys of all sources, in the order in which they came."""
        keys = self._database.rows("SELECT CAST(key AS BLOB) FROM sources ORDER BY source_id")
        return [os.fsdecode(key) for (key,) in keys]

    def names(self, source: str) -> Iterator[Named]:
        """Yield the inputs of a source in the order in which they came."""
        last = -1
        query = (
            f"{NAMES.replace('SELECT', 'SELECT name_id,')} WHERE key = {KEY} AND name_id > ? ORDER BY name_id LIMIT ?"
        )
        while rows := self._database.rows(query, os.fsencode(source), last, PAGE):
            yield from (Named(*row[1:]) for row in rows)
            last = rows[-1][0]

    def gone(self) -> list[Gone]:
        """Return the names that the last run took away, in the order in which they had come."""
        columns = "CAST(key AS BLOB), name, image_id, outcome"
        query = f"SELECT {columns} FROM gone JOIN sources USING (source_id) ORDER BY name_id"
        return [Gone(os.fsdecode(key), *rest) for key, *rest in self._database.rows(query)]

    def skipped(self) -> list[Skipped]:
        """Return the files that could not be read, in the order in which they came."""
        query = "SELECT CAST(key AS BLOB), name, reason FROM names JOIN sources USING (source_id)"
        rows = self._database.rows(f"{query} WHERE outcome = 'skipped' ORDER BY name_id")
        return [Skipped(os.fsdecode(key), *rest) for key, *rest in rows]

    def excludes(self, source: str) -> bool:
        """Return True when names of this source were removed by id."""
        query = f"SELECT 1 FROM names JOIN sources USING (source_id) WHERE key = {KEY} AND outcome = 'excluded' LIMIT 1"
        return bool(self._database.rows(query, os.fsencode(source)))

    def ids(self) -> list[int]:
        """Return the id of every image, ascending."""
        return [row[0] for row in self._database.rows("SELECT image_id FROM images ORDER BY image_id")]

    def ids_of(self, contents: Iterable[str]) -> dict[str, int]:
        """Return the image id of each content hash that is in the collection."""
        query = "SELECT content, image_id FROM images WHERE content = ?"
        return {found: image_id for one in contents for found, image_id in self._database.rows(query, one)}

    def contents(self) -> set[str]:
        """Return the content hash of every image."""
        return {row[0] for row in self._database.rows("SELECT content FROM images")}

    def close(self) -> None:
        """Close the file."""
        self._database.close()
