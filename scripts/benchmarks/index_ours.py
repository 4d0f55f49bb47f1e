"""The index itself beside its peers: flat, as the planner lays it out, and laid out in the other way."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import Layout, open_search
from index.costs import Bandwidth, milliseconds, needed
from index.layout import prepare
from scripts.benchmarks.index_forms import Form, Found, Search

__all__ = ["ours"]


@dataclass(frozen=True)
class Segment:
    """The only one."""

    path: Path
    features: NDArray[np.float32]
    ids: NDArray[np.int64]


@dataclass(frozen=True)
class Laid:
    """What a generation is to the search."""

    path: Path
    segments: tuple[Segment, ...]
    layout: Layout
    removed: NDArray[np.int64]


def ours(rows: int, width: int, layout: Layout, memory: int, speed: Bandwidth) -> list[Form]:
    """The forms for n rows of d numbers, of which the planner chose `layout`: what fits in the memory, and flat."""
    layouts = [Layout()]
    if layout.kind != "flat":
        other = replace(layout, kind="hnsw" if layout.kind == "panorama" else "panorama")
        layouts += [layout, *([other] if needed(rows, width, other) <= memory else [])]
    return [form for laid in layouts for form in _forms(laid, milliseconds(rows, width, laid, speed))]


def _forms(layout: Layout, expected: tuple[float, float]) -> Iterator[Form]:
    """A layout's answers: certified, and where that is another search, measured."""
    name = layout.kind if layout.kind == "flat" else f"{layout.kind} {layout.leading}/{layout.components}"
    build = partial(write, layout=layout)  # one for both
    for measured in (False, True) if layout.components else (False,):
        search = partial(opened, layout=layout, measured=measured)
        how = "measured" if measured else "certified"
        yield Form(f"fc7 {name}, {how}", search, 0, build, expected_ms=expected[measured])


def write(folder: Path, layout: Layout) -> None:
    """Write what building a generation adds to its rows, into a folder of the layout's own."""
    segment = _segment(folder, layout)
    segment.mkdir(parents=True)
    features = folder / "features.npy"
    (segment / "features.npy").symlink_to(features.resolve())
    np.save(segment / "ids.npy", np.arange(len(np.load(features, mmap_mode="r"))))
    prepare(segment.parent, segment, layout)


def opened(folder: Path, layout: Layout, measured: bool) -> Search:
    path = _segment(folder, layout)
    features, ids = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("features", "ids"))
    laid = Laid(path.parent, (Segment(path, features, ids),), layout, np.empty(0, np.int64))
    index = open_search(laid)

    def search(queries: NDArray[np.float32], k: int) -> Found:
        answers = index.search(queries, k, measured=measured)
        return answers.ids, answers.exactness

    return search


def _segment(folder: Path, layout: Layout) -> Path:
    return folder / f"fc7-{layout.kind}" / "0001"
