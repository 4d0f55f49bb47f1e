"""A published SQLite file is read in any thread, and closed in any."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from index.database import Database
from tests.waiting import wait_until

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*) FROM n"  # 0.2 s


def test_closing_waits_for_who_reads(tmp_path: Path) -> None:
    """SQLite's own way is a segmentation fault."""
    sqlite3.connect(tmp_path / "file").close()
    database = Database(tmp_path / "file")
    with ThreadPoolExecutor(1) as other:
        read = other.submit(database.rows, SLOW, 2_000_000)
        wait_until(lambda: database._turn.locked() or read.done())
        database.close()
        assert read.result() == [(2_000_000,)]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.rows("SELECT 1")
