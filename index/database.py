"""A SQLite file that no longer changes, for reading in any thread; it stays readable when it is removed."""

import sqlite3
import threading
import weakref
from pathlib import Path
from typing import Any

__all__ = ["Database", "uri"]


def uri(path: Path) -> str:
    """Return the URI that opens a file which nobody writes to, for reading."""
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


class Database:
    """A published SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises sqlite3.Error when it does not exist."""
        self._connection = sqlite3.connect(uri(path), uri=True, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._turn = threading.Lock()

    def rows(self, query: str, *values: int | str) -> list[tuple[Any, ...]]:
        """Return all rows of a query. Raises sqlite3.Error."""
        with self._turn:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
