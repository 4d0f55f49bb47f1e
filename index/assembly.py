"""The folder of a generation, made from the one before and from what a build has recorded.

It is made in building/generation/, from nothing each time, and published by one rename. What is as it was is a second
name of the same file.
"""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import files
from index.canaries import is_of_removed
from index.catalogue_writer import Merged, write_catalogue
from index.generation import CATALOGUE, CHECKPOINT, REMOVED, Generation
from index.layout import PROJECTION, Layout, prepare
from index.manifest import MANIFEST, BadBundle, Manifest, Part, fingerprint
from index.map import MAP, write_map
from index.plan import Leaving, Plan
from index.segment_writer import write_segment
from index.segments import FEATURES, SEGMENTS, THUMBNAILS, folder
from index.work import Work

__all__ = ["Measure", "assemble", "copied", "measure"]

MOST_DEAD = 0.2  # share of the segments' rows: with more, the living ones are copied into one segment
MOST_SEGMENTS = 8  # each is searched on its own
ANEW = {CATALOGUE, MAP, REMOVED}  # that each generation has of its own

Measure = Callable[[Generation], Mapping[str, Any]]  # the finished generation before it is published -> its quality


def assemble(
    path: Path, work: Work, features: Path, plan: Plan, leaving: Leaving, checkpoint: Path, base: Generation | None
) -> None:
    """Make the folder `path` a whole generation, with its manifest. features: the file of the recorded rows (n, d).

    Raises BadBundle where no image would be left, OSError, sqlite3.Error.
    """
    shutil.rmtree(path, ignore_errors=True)
    files.make_folder(path / SEGMENTS)
    merged = write_catalogue(work, path / CATALOGUE, base.path / CATALOGUE if base else None, plan, leaving)
    old = None if plan.fresh else base
    removed = merged.removed if old is None else np.union1d(old.removed, merged.removed)
    recorded = work.rows
    held = recorded + (0 if old is None else len(old.ids) + len(old.removed))
    if held == len(removed):
        raise BadBundle(f"{path.parent.parent}: no image would be left; what is published stays as it is")
    compact = old is not None and _is_due(old, plan, len(removed) / held, recorded)
    kept = {} if old is None else _shared(old, path, compact, removed)
    if old is None:
        shutil.copyfile(checkpoint, path / CHECKPOINT)
    segments = () if old is None or compact else old.manifest.segments
    if recorded or compact:
        segments = (*segments, f"{plan.number:04}")
        older = old.segments if old is not None and compact else ()
        write_segment(path / folder(segments[-1]), work, plan.first_id, features, older, removed)
        prepare(path, path / folder(segments[-1]), Layout(**plan.index))
    gone = removed[:0] if compact else removed
    files.replace_array(path / REMOVED, gone)
    write_map(path, [path / folder(name) for name in segments], gone, Layout(**plan.index).map)
    _finish(path, plan, merged, segments, held - len(removed), kept)


def copied(old: Generation, plan: Plan) -> int:
    """Return how many bytes will at least be written because old segments and the new one become one; 0 if not."""
    held = len(old.ids) + len(old.removed)
    if not _is_due(old, plan, len(old.removed) / (held + plan.total), plan.total):
        return 0
    stored = sum(part.bytes for name, part in old.manifest.parts.items() if Path(name).name in (FEATURES, THUMBNAILS))
    components: int = plan.index["components"] + plan.index["leading"]
    return len(old.ids) * (stored // held + 4 * components) + plan.total * 4 * plan.width


def measure(path: Path, by: Measure) -> None:
    """Measure the generation in `path`, and write what it gave, and the files that it wrote, into its manifest."""
    with closing(Generation(path)) as generation:
        quality, manifest = by(generation), generation.manifest
    known = {MANIFEST, *(name for name in manifest.parts if "/" in name)}  # no file of a folder is written again
    names = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    own = {name: _part(path / name) for name in names if name not in known}
    _write(path, replace(manifest, quality=quality, parts={**manifest.parts, **own}))


def _is_due(old: Generation, plan: Plan, dead: float, recorded: int) -> bool:
    """Return whether the segments should become one. dead: the share of their rows that are removed."""
    count = len(old.segments) + (recorded > 0)
    return dead > MOST_DEAD or count > MOST_SEGMENTS or Layout(**plan.index).files != old.layout.files


def _shared(old: Generation, path: Path, compact: bool, removed: NDArray[np.int64]) -> dict[str, Part]:
    """Give the files that the next generation shares a second name below `path`, and return them."""
    shared = {
        name: part
        for name, part in old.manifest.parts.items()
        if name not in ANEW
        and not is_of_removed(name, removed)
        and not (compact and (name == PROJECTION or name.startswith(f"{SEGMENTS}/")))
    }
    for name in shared:
        files.make_folder((path / name).parent)
        files.link(old.path / name, path / name)
    return shared


def _finish(
    path: Path, plan: Plan, merged: Merged, segments: tuple[str, ...], rows: int, kept: Mapping[str, Part]
) -> None:
    names = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    new = sorted(set(names) - set(kept))
    with ThreadPoolExecutor(2, "fingerprint") as pool:
        parts = {**kept, **dict(zip(new, pool.map(_part, [path / name for name in new]), strict=True))}
    manifest = Manifest(
        number=plan.number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=rows,
        width=plan.width,
        classes=merged.classes,
        next_id=plan.first_id + plan.total,
        inputs=plan.inputs,
        engine=plan.engine,
        segments=segments,
        index=plan.index,
        ledger=merged.ledger,
        parts=parts,
    )
    _write(path, manifest)


def _write(path: Path, manifest: Manifest) -> None:
    parts = dict(sorted(manifest.parts.items()))
    files.replace(path / MANIFEST, replace(manifest, parts=parts).to_json().encode())


def _part(file: Path) -> Part:
    """Sync a file to the disk, and describe it."""
    files.sync(file)
    return Part(file.stat().st_size, fingerprint(file))
