"""The rows of all segments, one after the other, without those of removed images. Their positions are int64."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import faiss
import numpy as np
from numpy.typing import NDArray

from index import exact
from index.pages import ask_for
from index.scans.scan import Rows

__all__ = ["AllRows"]

BLOCK = 1024  # rows that are copied at a time


class AllRows:
    """n rows of d numbers in several segments; `removed` (m,) are ids of images that the collection no longer has."""

    def __init__(self, segments: Sequence[Rows], removed: NDArray[np.int64]) -> None:
        """Raises ValueError for arrays that do not fit together."""
        for segment in segments:
            _check(segment)
        self._mapped = tuple(s.features for s in segments)
        # Plain arrays: numpy.memmap would be slower to take rows from.
        self.segments = tuple(replace(s, features=s.features.view(np.ndarray)) for s in segments)
        self.width = segments[0].features.shape[1]
        self._firsts = np.array([0, *accumulate(len(s.ids) for s in segments)])
        gone = [
            np.flatnonzero(np.isin(s.ids, removed)) + first for s, first in zip(segments, self._firsts, strict=False)
        ]
        self._removed = np.concatenate(gone) if len(removed) else np.empty(0, np.int64)
        self.alive = int(self._firsts[-1]) - len(self._removed)

    @property
    def dead_share(self) -> float:
        """Share of the rows that belong to removed images."""
        return len(self._removed) / max(1, int(self._firsts[-1]))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Positions (j,) -> their features (j, d), copied."""
        out = np.empty((len(rows), self.width), np.float32)
        for number, at, inside in self._by_segment(rows):
            out[at] = self.segments[number].features[inside]
        return out

    def squared(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(d,) and positions (j,) -> squared distances (j,), summed in float32; no row is copied."""
        out = np.empty(len(rows), np.float32)
        for number, at, inside in self._by_segment(rows):
            found = np.empty(len(inside), np.float32)
            ask_for(self._mapped[number], inside)
            base = self.segments[number].features
            pointers = [faiss.swig_ptr(array) for array in (found, query, base, np.ascontiguousarray(inside))]
            faiss.fvec_L2sqr_by_idx(*pointers, self.width, 1, len(inside))  # type: ignore[attr-defined]  # not in the stubs
            out[at] = found
        return out

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions (j,) -> image ids (j,)."""
        out = np.empty(len(rows), np.int64)
        for number, at, inside in self._by_segment(rows):
            out[at] = self.segments[number].ids[inside]
        return out

    def kept(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions that are not of removed images, in the given order."""
        return rows[~np.isin(rows, self._removed)] if len(self._removed) else rows

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Image ids (j,) ascending -> the positions (i,) of those that the collection has, ascending."""
        found = []
        for segment, first in zip(self.segments, self._firsts, strict=False):
            rows = np.minimum(np.searchsorted(segment.ids, ids), max(0, len(segment.ids) - 1))
            found.append(rows[segment.ids[rows] == ids] + first if len(segment.ids) else rows[:0])
        return self.kept(np.concatenate(found))

    def distances(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(d,) and positions (j,) -> exact.distances (j,), a block of rows at a time."""
        blocks = [exact.distances(self.take(rows[i : i + BLOCK]), query) for i in range(0, len(rows), BLOCK)]
        return np.concatenate([np.empty(0), *blocks])

    def nearest(
        self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(d,) -> the k nearest, of all or of some, by brute force: distances (k,) and ids (k,), as exact.nearest."""
        if rows is None:
            of_all = np.concatenate([exact.distances(segment.features, query) for segment in self.segments])
            rows = self.kept(np.arange(len(of_all)))
            found = of_all[rows]
        else:
            found = self.distances(query, rows)
        ids = self.ids(rows)
        best = exact.ordered(found, ids, k)
        return found[best], ids[best]

    def _by_segment(self, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.intp], NDArray[np.int64]]]:
        """Group positions: a segment's number, which of `rows` it holds, and where it holds them."""
        if len(self.segments) == 1:
            return [(0, np.arange(len(rows)), rows)]
        number = np.searchsorted(self._firsts, rows, side="right") - 1
        groups = []
        for segment in np.unique(number).tolist():
            at = np.flatnonzero(number == segment)
            groups.append((segment, at, rows[at] - self._firsts[segment]))
        return groups


def _check(segment: Rows) -> None:
    features, ids = segment.features, segment.ids
    if features.ndim != 2 or features.dtype != np.float32 or not features.flags.c_contiguous:
        raise ValueError(f"features must be (n, d) float32 in C order, not {features.shape} {features.dtype}")
    if not ids.shape == segment.lengths.shape == (len(features),):
        raise ValueError(f"{len(features)} rows need as many ids and lengths, not {ids.shape} {segment.lengths.shape}")
