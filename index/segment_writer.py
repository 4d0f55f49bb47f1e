"""Write a segment: the rows that a build has recorded and, to compact, before them the living rows of older ones."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import files
from index.database import attached
from index.segments import FEATURES, IDS, THUMBNAILS, Segment
from index.work import Work

__all__ = ["write_segment"]

ROWS = 4096  # of features that are copied at a time
TABLE = """
PRAGMA new.page_size = 16384;
CREATE TABLE new.thumbnails (
    image_id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    thumbnail BLOB NOT NULL
);
"""


def write_segment(
    path: Path, work: Work, first_id: int, features: Path, older: Sequence[Segment], removed: NDArray[np.int64]
) -> None:
    """Write the segment's folder. features: the file (n, d) of the recorded rows. removed: image ids to leave out.

    Without older segments the file of features gets a second name here. Raises OSError, sqlite3.Error.
    """
    files.make_folder(path)
    living = [~np.isin(segment.ids, removed) for segment in older]
    ids = [segment.ids[alive] for segment, alive in zip(older, living, strict=True)]
    files.replace_array(path / IDS, np.concatenate([*ids, work.positions() + first_id]))
    _write_thumbnails(path / THUMBNAILS, work, first_id, older, removed)
    if not older:
        files.link(features, path / FEATURES)
        return
    rows: NDArray[np.float32] = np.load(features, mmap_mode="r")
    count = sum(map(len, ids)) + len(rows)
    with files.replacing(path / FEATURES) as file:
        file.write(files.npy_header("<f4", (count, rows.shape[1])))
        for segment, alive in zip(older, living, strict=True):
            for start in range(0, len(alive), ROWS):
                kept = segment.features[start : start + ROWS][alive[start : start + ROWS]]
                files.write_all(file, kept.data)
        for start in range(0, len(rows), ROWS):
            files.write_all(file, np.ascontiguousarray(rows[start : start + ROWS]).data)


def _write_thumbnails(
    path: Path, work: Work, first_id: int, older: Sequence[Segment], removed: NDArray[np.int64]
) -> None:
    connection = work.connection
    with attached(connection, "new", path, new=True):
        connection.executescript(TABLE)
        for segment in older:
            with attached(connection, "old", segment.path / THUMBNAILS):
                _copy_thumbnails(connection, removed)
        query = "SELECT ? + position, size, sha256, thumbnail FROM main.embedded ORDER BY position"
        connection.execute(f"INSERT INTO new.thumbnails {query}", (first_id,))


def _copy_thumbnails(connection: sqlite3.Connection, removed: NDArray[np.int64]) -> None:
    connection.execute("CREATE TEMP TABLE removed (image_id INTEGER PRIMARY KEY)")
    try:
        connection.executemany("INSERT INTO removed VALUES (?)", [(image_id,) for image_id in removed.tolist()])
        living = "SELECT * FROM old.thumbnails WHERE image_id NOT IN (SELECT image_id FROM removed) ORDER BY image_id"
        connection.execute(f"INSERT INTO new.thumbnails {living}")
    finally:
        connection.execute("DROP TABLE temp.removed")
