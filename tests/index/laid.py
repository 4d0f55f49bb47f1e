"""Features laid out on disk as a generation's segments, without a bundle around them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.layout import Layout, flat_search, open_search, prepare
from index.search import Search

FLAT, FLOAT16 = "flat", "float16"
KINDS = {
    FLAT: Layout(),
    FLOAT16: Layout(),
    "panorama": Layout("panorama", 24, 6),
    "hnsw": Layout("hnsw", 24, 6),
}


@dataclass(frozen=True)
class Segment:
    """One segment's rows."""

    path: Path
    features: NDArray[np.float32]
    ids: NDArray[np.int64]


@dataclass(frozen=True)
class Laid:
    """A generation, as far as a search needs one."""

    path: Path
    segments: tuple[Segment, ...]
    layout: Layout
    removed: NDArray[np.int64]


def laid(
    path: Path, parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], layout: Layout, removed: Sequence[int]
) -> Laid:
    """Write each part (features, ids) as a segment."""
    segments = []
    for number, (features, ids) in enumerate(parts, 1):
        folder = path / "segments" / f"{number:04}"
        folder.mkdir(parents=True)
        np.save(folder / "features.npy", features)
        np.save(folder / "ids.npy", ids)
        prepare(path, folder, layout)
        segments.append(Segment(folder, *(np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("features", "ids"))))
    return Laid(path, tuple(segments), layout, np.array(sorted(removed), np.int64))


@contextmanager
def searching(
    kind: str,
    features: NDArray[np.float32],
    ids: NDArray[np.int64],
    cuts: Sequence[int] = (),
    removed: Sequence[int] = (),
) -> Iterator[Search]:
    """Lay features out in segments that end at `cuts`, and open their search."""
    if kind in (FLAT, FLOAT16) and not (cuts or removed):
        yield flat_search(features, ids, float16=kind == FLOAT16)
        return
    with tempfile.TemporaryDirectory() as folder:
        parts = list(zip(np.split(features, cuts), np.split(ids, cuts), strict=True))
        layout = KINDS[kind]
        generation = laid(Path(folder), [p for p in parts if len(p[0])], layout, removed)
        yield open_search(generation, float16=kind == FLOAT16)
