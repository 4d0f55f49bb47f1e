"""The catalogue: label and thumbnail of each image, and the list of images that could not be read. One SQLite file."""

import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCKS", "SKIPPED", "Catalogue", "Identity", "Image", "NoSuchImage", "Skipped", "agreed"]

Identity = Callable[[int, int], str]  # of the images start <= id < stop as they are now; as Block.identity was
SKIPPED = "SELECT image_id, name, reason FROM skipped ORDER BY image_id"
BLOCKS = "SELECT start, stop, identity FROM blocks ORDER BY start"


class NoSuchImage(LookupError):
    """No image with this id is in the collection, or the image could not be read when the index was built."""

    def __init__(self, image_id: int) -> None:
        super().__init__(f"no image {image_id} in this collection")


@dataclass(frozen=True)
class Image:
    """One indexed image."""

    image_id: int
    name: str  # relative path in the collection
    label: str | None  # class name
    size: int  # bytes of the thumbnail
    sha256: str  # of the thumbnail
    thumbnail: bytes  # PNG or JPEG


@dataclass(frozen=True)
class Skipped:
    """One image that could not be read when the collection was embedded."""

    image_id: int
    name: str
    reason: str


class Catalogue:
    """A published catalogue, read only. Any thread may use it. It stays readable when its generation is removed."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises sqlite3.Error when it does not exist."""
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        weakref.finalize(self, self._connection.close)
        self._turn = threading.Lock()

    def image(self, image_id: int) -> Image:
        """Return one indexed image. Raises NoSuchImage."""
        columns = "image_id, images.name, classes.name, size, sha256, thumbnail"
        rows = self._rows(
            f"SELECT {columns} FROM images LEFT JOIN classes ON class_id = label WHERE image_id = ?", image_id
        )
        if not rows:
            raise NoSuchImage(image_id)
        return Image(*rows[0])

    def labels(self) -> NDArray[np.int64]:
        """Return class ids (n,) int64 in the order of the features' rows; -1 is unknown."""
        rows = self._rows("SELECT ifnull(label, -1) FROM images ORDER BY image_id")
        return np.array([row[0] for row in rows], np.int64)

    def skipped(self) -> list[Skipped]:
        """Return the images that could not be read, in order of image id."""
        return [Skipped(*row) for row in self._rows(SKIPPED)]

    def is_of(self, total: int, identity: Identity) -> bool:
        """Return True when the collection still has `total` images and none has changed since they were embedded.

        False for a catalogue written before blocks were recorded.
        """
        if not self._rows("SELECT name FROM sqlite_master WHERE name = 'blocks'"):
            return False
        return self._extent == total == agreed(self._rows(BLOCKS), identity)

    def random_ids(self, rng: np.random.Generator, count: int) -> list[int]:
        """Draw `count` ids of indexed images, with replacement, all equally likely."""
        drawn: list[int] = []
        while len(drawn) < count:  # ids have gaps where images were skipped: draw again
            image_id = int(rng.integers(self._extent))
            drawn += [row[0] for row in self._rows("SELECT image_id FROM images WHERE image_id = ?", image_id)]
        return drawn

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def _extent(self) -> int:
        return int(self._rows("SELECT done FROM extent")[0][0])

    def _rows(self, query: str, *values: int) -> list[tuple[Any, ...]]:
        with self._turn:
            return self._connection.execute(query, values).fetchall()


def agreed(blocks: Sequence[tuple[int, int, str]], identity: Identity) -> int:
    """Return how many images come before the first recorded block (start, stop, identity) that has changed."""
    done = 0
    for start, stop, recorded in blocks:
        if identity(start, stop) != recorded:
            break
        done = stop
    return done
