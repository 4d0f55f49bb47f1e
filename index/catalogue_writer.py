"""The published catalogue: the one before, less what left, with what a build has recorded. Equal rows give equal bytes.

old_names and old_images are what is kept of the catalogue before; `found` is a row for each entry of the build.
"""

import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.database import attached
from index.plan import Leaving, Plan
from index.work import Work

__all__ = ["Merged", "write_catalogue"]

TABLES = """
CREATE TABLE {0}.classes (class_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE {0}.sources (source_id INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE {0}.images (image_id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE); -- SHA-256 of the encoded image
CREATE TABLE {0}.names (
    name_id INTEGER PRIMARY KEY,    -- ascending in the order in which the names came
    source_id INTEGER NOT NULL,
    name TEXT NOT NULL,             -- relative path in the source
    label INTEGER,                  -- class_id; NULL where unknown
    state TEXT NOT NULL,            -- changes when the file does
    image_id INTEGER,
    outcome TEXT NOT NULL,          -- of the last run over this source: indexed, duplicate, skipped, kept, excluded
    reason TEXT,                    -- why it was skipped
    UNIQUE (source_id, name),
    CHECK ((image_id IS NULL) = (outcome IN ('skipped', 'excluded')))
);
CREATE TABLE {0}.gone (             -- names that the last run took away
    name_id INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    image_id INTEGER,
    outcome TEXT NOT NULL           -- removed: its image, too; renamed: that has a new name; dropped: neither
);
"""
TEMPORARY = """
CREATE TEMP VIEW old_images AS SELECT * FROM base.images WHERE NOT {fresh};
CREATE TEMP VIEW old_names AS SELECT * FROM base.names WHERE NOT {fresh} OR outcome = 'excluded';
CREATE TEMP TABLE leaving (source_id INTEGER, name TEXT, PRIMARY KEY (source_id, name));
CREATE TEMP TABLE unwanted (image_id INTEGER PRIMARY KEY);
CREATE TEMP TABLE old_label (label INTEGER PRIMARY KEY, class_id INTEGER);
CREATE TEMP TABLE own_label (label INTEGER PRIMARY KEY, class_id INTEGER);
"""
STAYING = """
INSERT INTO new.names
SELECT name_id, source_id, name, class_id, state, iif(unwanted.image_id IS NULL, old.image_id, NULL),
    CASE WHEN unwanted.image_id NOT NULL THEN 'excluded'
         WHEN source_id = :source AND old.image_id NOT NULL THEN 'kept' ELSE outcome END, reason
FROM old_names AS old LEFT JOIN old_label USING (label) LEFT JOIN unwanted ON unwanted.image_id = old.image_id
WHERE NOT EXISTS (SELECT 1 FROM leaving WHERE leaving.source_id = old.source_id AND leaving.name = old.name)
    AND NOT (source_id = :source AND EXISTS (SELECT 1 FROM main.entries WHERE entries.name = old.name))
ORDER BY name_id
"""
FOUND = """
CREATE TEMP TABLE found AS
SELECT *, CASE
    WHEN reason NOT NULL THEN 'skipped'
    WHEN new_id = :first + position THEN 'indexed'
    WHEN new_id NOT NULL OR old_id IN (SELECT image_id FROM new.names) THEN 'duplicate'
    WHEN row_number() OVER (PARTITION BY old_id ORDER BY position) > 1 THEN 'duplicate'
    ELSE 'kept' END AS outcome
FROM (
    SELECT entries.position, name, class_id, state, reason, old_images.image_id AS old_id,
        :first + embedded.position AS new_id,
        (SELECT name_id FROM old_names AS old WHERE source_id = :source AND old.name = entries.name) AS old_name
    FROM main.entries LEFT JOIN own_label USING (label) LEFT JOIN main.embedded USING (content)
        LEFT JOIN old_images USING (content)
)
"""
ARRIVING = """
INSERT INTO new.names
SELECT ifnull(old_name, :next + position), :source, name, class_id, state, ifnull(new_id, old_id), outcome, reason
FROM found ORDER BY position
"""
IMAGES = """
INSERT INTO new.images
SELECT * FROM old_images WHERE image_id IN (SELECT image_id FROM new.names) ORDER BY image_id
"""
GONE = """
INSERT INTO new.gone
SELECT name_id, source_id, name, image_id, CASE
    WHEN image_id IS NULL THEN 'dropped'
    WHEN image_id NOT IN (SELECT image_id FROM new.images) THEN 'removed'
    WHEN image_id IN (SELECT old_id FROM found WHERE outcome = 'kept') THEN 'renamed' ELSE 'dropped' END
FROM old_names JOIN leaving USING (source_id, name) ORDER BY name_id
"""
SOURCES = """
INSERT INTO new.sources
SELECT * FROM (SELECT * FROM base.sources UNION SELECT :source, CAST(:key AS TEXT))
WHERE source_id IN (SELECT source_id FROM new.names UNION SELECT source_id FROM new.gone) ORDER BY source_id
"""
RENAMED = """
SELECT count(*) FROM found WHERE outcome = 'kept'
    AND NOT EXISTS (SELECT 1 FROM old_names WHERE name_id = old_name AND image_id = old_id)
"""
OUTCOMES = ("indexed", "duplicate", "skipped", "kept", "excluded")
NO_SOURCE = -1  # the source_id of a run that looks at no source


@dataclass(frozen=True)
class Merged:
    """What a catalogue holds that was just written."""

    classes: tuple[str, ...]
    removed: NDArray[np.int64]  # ids of the images that the catalogue before held, and this one does not
    ledger: Mapping[str, int]


def write_catalogue(work: Work, path: Path, base: Path | None, plan: Plan, leaving: Leaving) -> Merged:
    """Write the catalogue of a build that is recorded whole. Raises sqlite3.Error, OSError."""
    connection = work.connection
    with attached(connection, "base", base), attached(connection, "new", path, new=True):
        try:
            if base is None:
                connection.executescript(TABLES.format("base"))
            connection.executescript("BEGIN;" + TABLES.format("new") + TEMPORARY.format(fresh=int(plan.fresh)))
            return _merge(connection, plan, leaving)
        finally:
            _drop_temporary(connection)


def _merge(connection: sqlite3.Connection, plan: Plan, leaving: Leaving) -> Merged:
    classes = _classes(connection, plan)
    sources = connection.execute("SELECT CAST(key AS BLOB), source_id FROM base.sources")
    keys = {os.fsdecode(key): number for key, number in sources}
    source = NO_SOURCE if plan.source is None else keys.get(plan.source, max(keys.values(), default=0) + 1)
    gone = [(keys[key], name) for key, names in leaving.names.items() for name in names]
    connection.executemany("INSERT INTO leaving VALUES (?, ?)", gone)
    connection.executemany("INSERT INTO unwanted VALUES (?)", [(image_id,) for image_id in leaving.ids])
    following = connection.execute("SELECT ifnull(max(name_id) + 1, 0) FROM base.names").fetchone()[0]
    values = {"source": source, "key": os.fsencode(plan.source or ""), "first": plan.first_id, "next": following}
    for statement in (STAYING, FOUND, ARRIVING, IMAGES):
        connection.execute(statement, values)
    new_images = "INSERT INTO new.images SELECT ? + position, content FROM main.embedded ORDER BY position"
    connection.execute(new_images, (plan.first_id,))
    connection.execute(GONE)
    connection.execute(SOURCES, values)
    connection.execute("CREATE INDEX new.names_of_images ON names (image_id)")
    lost = "SELECT image_id FROM old_images WHERE image_id NOT IN (SELECT image_id FROM new.images) ORDER BY image_id"
    removed = np.array([row[0] for row in connection.execute(lost)], np.int64)
    counts = dict(
        connection.execute("SELECT outcome, count(*) FROM new.names WHERE source_id = ? GROUP BY outcome", (source,))
    )
    renamed = connection.execute(RENAMED).fetchone()[0]
    connection.execute("COMMIT")
    ledger = {"inputs": plan.kept + plan.total, **{outcome: counts.get(outcome, 0) for outcome in OUTCOMES}}
    return Merged(classes, removed, {**ledger, "removed": len(removed), "renamed": renamed})


def _classes(connection: sqlite3.Connection, plan: Plan) -> tuple[str, ...]:
    """Write the classes: those of before, then new ones. Fill old_label and own_label, which lead to them."""
    old = [row[0] for row in connection.execute("SELECT name FROM base.classes ORDER BY class_id")]
    if plan.fresh:
        used = "SELECT DISTINCT label FROM old_names WHERE label NOT NULL ORDER BY label"
        excluded = [old[label] for (label,) in connection.execute(used)]
        classes, own = list(plan.classes), list(range(len(plan.classes)))
        there = set(classes)
        classes += [name for name in dict.fromkeys(excluded) if name not in there]
        places = dict[str, int]()
        for place, name in enumerate(classes):
            places.setdefault(name, place)
        of_old = [places.get(name) for name in old]
    else:
        classes, own = _joined(old, plan.classes)
        of_old = list(range(len(old)))
    connection.executemany("INSERT INTO new.classes VALUES (?, ?)", enumerate(classes))
    connection.executemany("INSERT INTO old_label VALUES (?, ?)", enumerate(of_old))
    connection.executemany("INSERT INTO own_label VALUES (?, ?)", enumerate(own))
    return tuple(classes)


def _joined(old: Sequence[str], own: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the old classes and behind them the new ones of `own`, and where each of `own` is among them.

    Two classes may have one name: the first of `own` is then the first of old, and so on.
    """
    classes, places, seen = list(old), list[int](), Counter[str]()
    called = defaultdict[str, list[int]](list)
    for place, name in enumerate(old):
        called[name].append(place)
    for name in own:
        there = called[name]
        if seen[name] == len(there):
            there.append(len(classes))
            classes.append(name)
        places.append(there[seen[name]])
        seen[name] += 1
    return classes, places


def _drop_temporary(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    for kind, name in connection.execute("SELECT type, name FROM temp.sqlite_master").fetchall():
        if kind != "index":
            connection.execute(f"DROP {kind} temp.{name}")
