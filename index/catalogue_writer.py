"""The catalogue of a build in progress: it also records how far the build has come, and what each block's images were.

One transaction adds a block's rows and moves the extent. Nothing in the published file depends on when or where it was
written: equal rows give equal bytes.
"""

import hashlib
import os
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import files
from index.catalogue import BLOCKS, SKIPPED, Identity, agreed

__all__ = ["Block", "CatalogueWriter"]

SCHEMA = """
PRAGMA page_size = 16384;  -- with 4096, a lossless 32 x 32 thumbnail leaves half of its page empty
CREATE TABLE classes (class_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE images (
    image_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,             -- relative path in the collection
    label INTEGER,                  -- class_id; NULL where unknown
    size INTEGER NOT NULL,          -- bytes of the thumbnail
    sha256 TEXT NOT NULL,           -- of the thumbnail
    thumbnail BLOB NOT NULL         -- PNG or JPEG
);
CREATE TABLE skipped (image_id INTEGER PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE blocks (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, identity TEXT NOT NULL);  -- as appended
CREATE TABLE extent (done INTEGER NOT NULL);  -- images 0 ... done - 1 are in one of the two tables above
INSERT INTO extent VALUES (0);
"""


class Block(Protocol):
    """What embedding the images start <= id < stop gave: n images with features, the others skipped."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) int64, ascending."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class ids, -1 unknown."""

    @property
    def features(self) -> NDArray[np.float32]:
        """(n, d)."""

    @property
    def thumbnails(self) -> Sequence[bytes]: ...
    @property
    def skipped(self) -> Sequence[tuple[int, str, str]]:
        """Image id, name and reason of each image that is not among `ids`."""

    @property
    def identity(self) -> str:
        """What the images start <= id < stop were when they were read; it changes when one of them does."""


class CatalogueWriter:
    """The catalogue of a build in progress. Each method may raise sqlite3.Error; what was recorded before stays."""

    def __init__(self, path: Path) -> None:
        """Open the catalogue that `create` made. SQLite undoes an unfinished transaction of a killed process."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._close = weakref.finalize(self, self._connection.close)  # Python 3.13 warns of what nobody closed
        self._connection.execute("PRAGMA synchronous = EXTRA")  # a commit returns when it is on the disk
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # the journal's file is used again

    @staticmethod
    def create(path: Path, classes: Sequence[str]) -> None:
        """Write an empty catalogue."""
        connection = sqlite3.connect(path)
        try:
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO classes VALUES (?, ?)", enumerate(classes))
            connection.commit()
        finally:
            connection.close()

    @property
    def done(self) -> int:
        """Images 0 ... done - 1 are recorded, as indexed or as skipped."""
        return int(self._connection.execute("SELECT done FROM extent").fetchone()[0])

    @property
    def size(self) -> int:
        """Bytes of the published file, about."""
        used = "SELECT (page_count - freelist_count) * page_size"
        pages = "pragma_page_count, pragma_freelist_count, pragma_page_size"
        return int(self._connection.execute(f"{used} FROM {pages}").fetchone()[0])

    def ids(self) -> NDArray[np.int64]:
        """Return the ids (n,) of the indexed images, ascending. Row i of the features belongs to the i-th of them."""
        rows = self._connection.execute("SELECT image_id FROM images ORDER BY image_id")
        return np.fromiter((row[0] for row in rows), np.int64)

    def first_reason(self) -> str:
        """Return the name of the first image that could not be read, and why."""
        found = self._connection.execute(SKIPPED).fetchone()
        return f"{found[1]}: {found[2]}" if found else "there are none"

    def agreed(self, identity: Identity) -> int:
        """Return how many images at the start of the collection are recorded and unchanged, in whole blocks."""
        return agreed(self._connection.execute(BLOCKS).fetchall(), identity)

    def identity(self) -> str:
        """Return the SHA-256 of the recorded blocks' identities."""
        blocks = self._connection.execute(BLOCKS).fetchall()
        return hashlib.sha256("".join(recorded for _, _, recorded in blocks).encode()).hexdigest()

    def keep(self, done: int) -> None:
        """Forget the images from id `done` on, in one transaction that is synced to the disk."""
        with self._transaction():
            for table, column in (("images", "image_id"), ("skipped", "image_id"), ("blocks", "start")):
                self._connection.execute(f"DELETE FROM {table} WHERE {column} >= ?", (done,))
            self._connection.execute("UPDATE extent SET done = ?", (done,))

    def record(self, block: Block) -> None:
        """Add a block's rows and move the extent to its stop, in one transaction that is synced to the disk."""
        labels = [None if label < 0 else int(label) for label in block.labels]
        hashes = [hashlib.sha256(thumbnail).hexdigest() for thumbnail in block.thumbnails]
        sizes = [len(thumbnail) for thumbnail in block.thumbnails]
        rows = zip(block.ids.tolist(), block.names, labels, sizes, hashes, block.thumbnails, strict=True)
        with self._transaction():
            self._connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._connection.executemany("INSERT INTO skipped VALUES (?, ?, ?)", block.skipped)
            self._connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (block.start, block.stop, block.identity))
            self._connection.execute("UPDATE extent SET done = ?", (block.stop,))

    def write_to(self, path: Path) -> None:
        """Write the published file: equal rows give equal bytes, however often the build was interrupted."""
        path.unlink(missing_ok=True)
        self._connection.execute("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(path),))  # a path need not be UTF-8
        files.sync(path)

    def close(self) -> None:
        """Close the file."""
        self._close()  # once, so not again in whichever thread collects the garbage

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
