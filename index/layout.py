"""How a generation's rows are laid out for searching, the files that make it so, and the search that opens them.

projection.npy in the generation's folder is shared by all segments. A segment's folder holds lengths.npy, and for a
layout that is not flat the reduced rows. All of them are made when the generation is built, so that opening it reads
about a hundred bytes of each row (docs/search.md) and no features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import files
from index import exact
from index.manifest import BadBundle
from index.projection import Projection, fit
from index.rows import AllRows
from index.scans.flat import FlatScan
from index.scans.reduced import ReducedScan, Sizes, write_reduced
from index.scans.scan import Rows
from index.search import Search, threads
from index.stored import mapped_array

__all__ = ["FEATURES", "IDS", "PROJECTION", "Layout", "MapKind", "flat_search", "open_search", "prepare"]

PROJECTION, FEATURES, IDS, LENGTHS = "projection.npy", "features.npy", "ids.npy", "lengths.npy"
COMPONENTS = 512  # that are looked for
ROWS = 4096  # whose lengths are taken at a time

MapKind = Literal["none", "pca", "umap"]


@dataclass(frozen=True)
class Layout:
    """What is kept beside the rows (n, d), to search them faster and to draw them; manifest.json records it."""

    kind: Literal["flat", "panorama", "hnsw"] = "flat"
    components: int = 0  # leading principal components that prove an answer; 0 for flat
    leading: int = 0  # the fewer ones that propose candidates
    candidates: int = 72  # that are compared whole for a `measured` answer, at least
    map: MapKind = "none"  # the images' positions in the plane: see index/map.py

    @property
    def files(self) -> tuple[str, int, int]:
        """What decides which files segments have. Layouts that differ in the rest alone share them."""
        return self.kind, self.components, self.leading

    def sizes(self, width: int) -> Sizes:
        """Return what is kept of rows of `width` numbers, which may have fewer than the layout wants."""
        return Sizes(min(self.components, width), min(self.leading, width), self.kind == "hnsw")


class Segment(Protocol):
    """What is needed of a generation's segment."""

    @property
    def path(self) -> Path: ...
    @property
    def features(self) -> NDArray[np.float32]: ...
    @property
    def ids(self) -> NDArray[np.int64]: ...


class Laid(Protocol):
    """What is needed of a generation."""

    @property
    def path(self) -> Path: ...
    @property
    def segments(self) -> Sequence[Segment]: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def removed(self) -> NDArray[np.int64]:
        """(m,) ids of images that segments hold and the collection no longer has."""


def prepare(generation: Path, segment: Path, layout: Layout) -> None:
    """Write what `layout` wants beside a segment's features, and into `generation` the projection if it has none.

    What is there already is kept. Equal features give equal bytes on one machine. Raises OSError; BadBundle for a
    projection that is there and cannot be used.
    """
    features, ids = (np.load(segment / name, mmap_mode="r") for name in (FEATURES, IDS))
    if not (segment / LENGTHS).exists():
        files.replace_array(segment / LENGTHS, lengths_of(features))
    if layout.kind == "flat":
        return
    if not (generation / PROJECTION).exists():
        files.replace_array(generation / PROJECTION, fit(features, COMPONENTS))
    rows = Rows(features, ids, np.load(segment / LENGTHS, mmap_mode="r"))
    write_reduced(segment, rows, _projection(generation, features.shape[1]), layout.sizes(features.shape[1]))


def open_search(generation: Laid, *, gpus: Sequence[int] = (), float16: bool = False) -> Search:
    """Open a generation's search: on the CPU as it is laid out, flat on GPUs and in float16.

    Raises what the scans do: GpuFailed, TooLarge, ValueError for a GPU that FAISS does not see; and BadBundle for files
    that cannot be read or do not belong to the rows.
    """
    segments, layout = generation.segments, generation.layout
    rows = [Rows(segment.features, segment.ids, _lengths(segment)) for segment in segments]
    if layout.kind == "flat" or gpus or float16:
        return _flat(rows, generation.removed, gpus, float16)
    pool, width = threads(), rows[0].features.shape[1]
    flat = FlatScan(rows, gpus=(), float16=False)
    folders = [(segment.path, of) for segment, of in zip(segments, rows, strict=True)]
    scan = ReducedScan(folders, _projection(generation.path, width), layout.sizes(width), pool)
    return Search(AllRows(rows, generation.removed), flat, scan, pool, layout.candidates)


def flat_search(
    features: NDArray[np.float32], ids: NDArray[np.int64], *, gpus: Sequence[int] = (), float16: bool = False
) -> Search:
    """Search features (n, d) float32 in C order, with ids (n,), by a flat scan.

    gpus: the numbers of the GPUs to search on (see gpus_of), which share the rows; none is the CPU.
    float16: scan a copy of the features in half the bytes; the float32 features still decide the answer.
    Raises ValueError for arrays that do not fit together and for a GPU that FAISS does not see, GpuFailed when it
    cannot use one, TooLarge for features that cannot be squared: in float16 on a GPU a component may be at most 255.
    """
    return _flat([Rows(features, ids, lengths_of(features))], np.empty(0, np.int64), gpus, float16)


def _flat(rows: Sequence[Rows], removed: NDArray[np.int64], gpus: Sequence[int], float16: bool) -> Search:
    together = AllRows(rows, removed)  # first: it checks the arrays
    return Search(together, FlatScan(rows, gpus=gpus, float16=float16), None, threads())


def _lengths(segment: Segment) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = mapped_array(segment.path / LENGTHS, np.float64, 1)
    if len(lengths) != len(segment.ids):
        raise BadBundle(f"{segment.path / LENGTHS}: {len(lengths)} lengths, where there are {len(segment.ids)} rows")
    return lengths


def _projection(generation: Path, width: int) -> Projection:
    basis = np.array(mapped_array(generation / PROJECTION, np.float64, 2))
    if basis.shape != (min(COMPONENTS, width), width) or not np.isfinite(basis).all():
        raise BadBundle(f"{generation / PROJECTION}: not the projection of rows of {width} numbers")
    return Projection(basis)


def lengths_of(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, d) -> (n,): Euclidean lengths."""
    origin = np.zeros(features.shape[1], np.float32)
    blocks = [exact.distances(features[i : i + ROWS], origin) for i in range(0, len(features), ROWS)]
    return np.concatenate([np.empty(0), *blocks])
