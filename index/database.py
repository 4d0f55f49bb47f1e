"""SQLite files that are published: opened for reading, or attached to a connection that reads or writes them."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import files
from index.manifest import BadBundle

__all__ = ["Database", "attached"]


class Database:
    """A published SQLite file, for reading in any thread. It stays readable when it is removed."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises BadBundle when it does not exist."""
        self._path = path
        with self._readable():
            self._connection = sqlite3.connect(_reading(path), uri=True, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._turn = threading.Lock()

    def rows(self, query: str, *values: int | str | bytes) -> list[tuple[Any, ...]]:
        """Return all rows of a query. Raises BadBundle for a damaged file."""
        with self._turn, self._readable():
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file, when nobody reads it."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # not the file's fault
            raise
        except sqlite3.Error as error:
            raise BadBundle(f"{self._path}: cannot be read: {error}") from error


@contextmanager
def attached(connection: sqlite3.Connection, name: str, path: Path | None, *, new: bool = False) -> Iterator[None]:
    """Attach a published SQLite file, a new one in its place, or, without a path, an empty database in memory."""
    if new and path is not None:
        place: str | bytes = os.fsencode(path.absolute())  # a path need not be UTF-8
    else:
        place = ":memory:" if path is None else _reading(path)
    connection.execute(f"ATTACH CAST(? AS TEXT) AS {name}", (place,))
    try:
        if new:
            connection.execute(f"PRAGMA {name}.journal_mode = MEMORY")  # a file that is not finished is written anew
            connection.execute(f"PRAGMA {name}.synchronous = OFF")
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute(f"DETACH {name}")
    if new and path is not None:
        files.sync(path)


def _reading(path: Path) -> str:
    """Return the URI that opens, for reading, a file to which nobody writes."""
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"
