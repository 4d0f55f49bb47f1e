"""Exact search: FAISS finds candidates, float64 orders them, and a bound proves that no nearer row is missing.

Let D be the k-th exact distance among the candidates. `Rounding.ceiling` is the largest number that FAISS can report
for a row at distance D or nearer. If FAISS reported a larger number for every row that it left out, none of those rows
belongs in the answer. Otherwise twice as many candidates are asked for, and beyond LIMIT exact.nearest answers. So the
result equals that of exact.nearest, ids and ties included; rounding costs only time.

Memory for n rows of d numbers. CPU: float32 reads the features in place (a memory-mapped file stays in the page cache)
and adds 4 n bytes; float16 adds 2 n d. GPUs: 4 n d bytes, or 2 n d in float16, divided between them, and FAISS's
scratch space on each.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import exact
from index.scan import Scan

__all__ = ["FlatIndex", "Searcher"]

SPARE = 26  # candidates beyond k in the first scan
LIMIT = 1024  # candidates in the last scan; FAISS on a GPU selects at most 2048

Found = tuple[NDArray[np.float64], NDArray[np.int64]]


class Searcher(Protocol):
    """What the service needs of a search."""

    device: str  # where it runs, as in "cpu" or "cuda:0, cuda:1"

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """(q, d) float32 -> distances (q, min(k, n)) float64, image ids (q, min(k, n)) int64.

        Distances are Euclidean and ascend; ties are in the order of image ids.
        """
        ...


class FlatIndex:
    """Exact nearest neighbours over features (n, d) float32 in C order, with ids (n,) int64. Any thread may search.

    gpus: the numbers of the GPUs to search on (see gpus_of), which share the rows; none is the CPU.
    float16: scan a copy of the features in half the bytes; the float32 features still decide the answer.
    Raises ValueError for arrays that do not fit together and for a GPU that FAISS does not see, GpuFailed when it
    cannot use one, TooLarge for features that cannot be squared: in float16 on a GPU a component may be at most 255.
    """

    def __init__(
        self, features: NDArray[np.float32], ids: NDArray[np.int64], *, gpus: Sequence[int] = (), float16: bool = False
    ) -> None:
        if features.ndim != 2 or features.dtype != np.float32 or not features.flags.c_contiguous:
            raise ValueError(f"features must be (n, d) float32 in C order, not {features.shape} {features.dtype}")
        if ids.shape != (len(features),):
            raise ValueError(f"{len(features)} rows need as many ids, not {ids.shape}")
        self._features, self._ids = features, ids
        self.device = ", ".join(f"cuda:{gpu}" for gpu in gpus) or "cpu"
        self._scan = Scan(features, gpus=gpus, float16=float16)

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """(q, d) float32 -> distances (q, min(k, n)) float64 ascending, image ids (q, min(k, n)) int64.

        Ties are in the order of image ids. Raises GpuFailed; ValueError for another shape or dtype, for numbers that
        are not finite, and for k < 1.
        """
        self._check(queries, k)
        lengths = exact.distances(queries, np.zeros(queries.shape[1], np.float32))
        k = min(k, len(self._ids))
        distances, ids = np.empty((len(queries), k), np.float64), np.empty((len(queries), k), np.int64)
        settled = np.zeros(len(queries), bool)
        pending, wanted = np.flatnonzero(self._scan.fits(queries, lengths)), k + SPARE
        while k and len(pending) and wanted <= LIMIT:
            found = self._scan.candidates(np.ascontiguousarray(queries[pending]), wanted)
            for i in np.flatnonzero(found.valid):
                row = pending[i]
                near, rows = self._nearest(queries[row], lengths[row], found.squared[i], found.rows[i], k)
                distances[row], ids[row] = near, self._ids[rows]
                settled[row] = found.left_out[i] > self._scan.rounding.ceiling(near[-1], lengths[row])
            pending, wanted = pending[found.valid & ~settled[pending]], 2 * wanted
        rest = np.flatnonzero(~settled)
        distances[rest], ids[rest] = exact.nearest(self._features, self._ids, queries[rest], k)
        return distances, ids

    def _nearest(
        self, query: NDArray[np.float32], length: float, squared: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the exact distances (k,) and the rows (k,) of the k nearest candidates.

        The k candidates reported nearest are measured first. A row that is reported beyond the ceiling of the farthest
        of them is farther, and need not be measured.
        """
        order = np.argsort(squared)
        reported, rows = squared[order], rows[order]
        found = exact.distances(self._features[rows[:k]], query)
        within = int(np.searchsorted(reported, self._scan.rounding.ceiling(found.max(), length), side="right"))
        found = np.concatenate([found, exact.distances(self._features[rows[k:within]], query)])
        best = exact.ordered(found, self._ids[rows[: len(found)]], k)
        return found[best], rows[best]

    def _check(self, queries: NDArray[np.float32], k: int) -> None:
        if queries.ndim != 2 or queries.shape[1] != self._features.shape[1] or queries.dtype != np.float32:
            raise ValueError(
                f"queries must be (q, {self._features.shape[1]}) float32, not {queries.shape} {queries.dtype}"
            )
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")
