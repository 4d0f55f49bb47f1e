"""work.sqlite: what a build in progress has recorded, how far it has come, and what each block's images were.

One transaction adds a block's rows and moves the extent. The published files are written from it, in order of position.
"""

import hashlib
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.catalogue import Identity
from index.manifest import BadBundle

__all__ = ["Block", "Entry", "Work"]

SCHEMA = """
PRAGMA page_size = 16384;  -- with 4096, a lossless 32 x 32 thumbnail leaves half of its page empty
CREATE TABLE entries (
    position INTEGER PRIMARY KEY,   -- in the work list
    name TEXT NOT NULL UNIQUE,
    label INTEGER,                  -- NULL where unknown
    state TEXT NOT NULL,
    content TEXT,                   -- NULL where skipped
    reason TEXT                     -- why it was skipped
);
CREATE TABLE embedded (
    position INTEGER PRIMARY KEY,
    content TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,          -- bytes of the thumbnail
    sha256 TEXT NOT NULL,           -- of the thumbnail
    thumbnail BLOB NOT NULL         -- PNG or JPEG
);
CREATE TABLE blocks (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, identity TEXT NOT NULL);  -- as appended
CREATE TABLE extent (done INTEGER NOT NULL);  -- positions 0 ... done - 1 are recorded
INSERT INTO extent VALUES (0);
"""


class Entry(Protocol):
    """One input of a work list, as it was when it was read."""

    @property
    def image_id(self) -> int:
        """Position in the work list."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int:
        """Class id in the source's classes, -1 unknown."""

    @property
    def state(self) -> str:
        """Changes when the file does."""

    @property
    def content(self) -> str | None:
        """SHA-256 of the encoded image; None where it could not be read."""

    @property
    def skipped(self) -> str | None:
        """Why it could not be read."""


class Block(Protocol):
    """What the inputs start <= i < stop of a work list gave: n of them were embedded."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def entries(self) -> Sequence[Entry]:
        """One for each input, in order."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) positions, ascending, of the inputs that were embedded: those whose content was not known before."""

    @property
    def features(self) -> NDArray[np.float32]:
        """(n, d)."""

    @property
    def thumbnails(self) -> Sequence[bytes]: ...
    @property
    def identity(self) -> str:
        """What the inputs start <= i < stop were when they were read; it changes when one of them does."""


class Work:
    """The record of a build in progress. Each method may raise sqlite3.Error; what was recorded before stays."""

    def __init__(self, path: Path) -> None:
        """Open the file that `create` made. SQLite undoes an unfinished transaction of a killed process."""
        self.connection = sqlite3.connect(path, isolation_level=None, uri=True)
        self._close = weakref.finalize(self, self.connection.close)  # Python 3.13 warns of what nobody closed
        self.connection.execute("PRAGMA synchronous = EXTRA")  # a commit returns when it is on the disk
        self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # the journal's file is used again

    @staticmethod
    def create(path: Path) -> None:
        """Write an empty record."""
        connection = sqlite3.connect(path)
        try:
            connection.executescript(SCHEMA)
        finally:
            connection.close()

    @property
    def done(self) -> int:
        """Positions 0 ... done - 1 are recorded."""
        return self._number("SELECT done FROM extent")

    @property
    def rows(self) -> int:
        """Return how many images were embedded."""
        return self._number("SELECT count(*) FROM embedded")

    @property
    def size(self) -> int:
        """Bytes of what is recorded, about."""
        pages = "pragma_page_count, pragma_freelist_count, pragma_page_size"
        return self._number(f"SELECT (page_count - freelist_count) * page_size FROM {pages}")

    def positions(self) -> NDArray[np.int64]:
        """Return the positions (n,) of the embedded images, ascending: row i of the features is the i-th's."""
        rows = self.connection.execute("SELECT position FROM embedded ORDER BY position")
        return np.fromiter((row[0] for row in rows), np.int64)

    def contents(self) -> set[str]:
        """Return the content hashes of the embedded images."""
        return {row[0] for row in self.connection.execute("SELECT content FROM embedded")}

    def first_reason(self) -> str:
        """Return the name of the first input that could not be read, and why."""
        query = "SELECT name, reason FROM entries WHERE reason NOT NULL ORDER BY position"
        found = self.connection.execute(query).fetchone()
        return f"{found[0]}: {found[1]}" if found else "there are none"

    def agreed(self, identity: Identity) -> int:
        """Return how many inputs at the start of the work list are recorded and unchanged, in whole blocks."""
        done = 0
        for start, stop, recorded in self.connection.execute("SELECT * FROM blocks ORDER BY start").fetchall():
            if identity(start, stop) != recorded:
                break
            done = stop
        return done

    def keep(self, done: int) -> None:
        """Forget the inputs from position `done` on, in one transaction that is synced to the disk."""
        with self._transaction():
            for table, column in (("entries", "position"), ("embedded", "position"), ("blocks", "start")):
                self.connection.execute(f"DELETE FROM {table} WHERE {column} >= ?", (done,))
            self.connection.execute("UPDATE extent SET done = ?", (done,))

    def record(self, block: Block) -> None:
        """Add a block's rows and move the extent to its stop, in one transaction that is synced to the disk.

        Raises BadBundle where a name, or an embedded content, is there already.
        """
        entries = [
            (e.image_id, e.name, None if e.label < 0 else e.label, e.state, e.content, e.skipped) for e in block.entries
        ]
        contents = [block.entries[position - block.start].content for position in block.ids.tolist()]
        hashes = [hashlib.sha256(thumbnail).hexdigest() for thumbnail in block.thumbnails]
        sizes = [len(thumbnail) for thumbnail in block.thumbnails]
        rows = zip(block.ids.tolist(), contents, sizes, hashes, block.thumbnails, strict=True)
        try:
            with self._transaction():
                self.connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", entries)
                self.connection.executemany("INSERT INTO embedded VALUES (?, ?, ?, ?, ?)", rows)
                block_row = (block.start, block.stop, block.identity)
                self.connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", block_row)
                self.connection.execute("UPDATE extent SET done = ?", (block.stop,))
        except sqlite3.IntegrityError as error:
            place = f"images {block.start} to {block.stop}"
            raise BadBundle(f"{place}: two of this build have the same name or content: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._close()  # once, so not again in whichever thread collects the garbage

    def _number(self, query: str) -> int:
        return int(self.connection.execute(query).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
