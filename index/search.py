"""Flat search: FAISS finds candidates, float64 settles their order, and a certificate proves that none is missing.

With D the k-th exact distance among the candidates, `Rounding.ceiling` says how large FAISS's rounded result can be
for any row as near as D. If every row that FAISS left out was reported farther, none of them belongs in the answer. If
not, twice as many candidates are asked for, and past LIMIT the definition itself answers. So the result is always
that of exact.nearest, ids and ties included: rounding costs time, never truth.

Memory, for n rows of d numbers. CPU: float32 reads the features where they lie (a memory-mapped file: the page cache,
no copy) and adds 4 n bytes; float16 adds 2 n d. GPUs: 4 n d bytes, or 2 n d, divided between them, and FAISS's scratch
space (about 1.5 GiB each).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import exact
from index.scan import Scan

__all__ = ["FlatIndex", "Searcher"]

SPARE = 26  # candidates asked for beyond k at first
LIMIT = 1024  # candidates; a GPU selects at most 2048, and beyond this brute force is not much slower

Found = tuple[NDArray[np.float64], NDArray[np.int64]]


class Searcher(Protocol):
    """What the service asks of any search: Euclidean distances, ascending, ties by image id."""

    device: str  # where it runs, as in "cpu" or "cuda:0, cuda:1"

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """(q, d) float32 -> distances (q, min(k, n)) float64, image ids (q, min(k, n)) int64."""
        ...


class FlatIndex:
    """Exact nearest neighbours over features (n, d) float32 in C order, ids (n,) int64; any thread may search.

    gpus: numbers of the GPUs to search on (see gpus_of), the rows are divided between them; none: the CPU.
    float16: what is scanned is stored in half the bytes; the float32 features still settle every answer. It pays on
    GPUs; on a CPU single queries take a fifth less, batches of 32 four times as long.
    Raises ValueError for arrays that do not fit together and for a GPU that FAISS does not see, TooLarge for features
    that cannot be squared: in float16 on a GPU a component may be at most 255.
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

        Ties by image id. Raises ValueError for another shape or dtype, for numbers that are not finite, for k < 1.
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
        """The k nearest among the candidates, exactly: distances (k,) and positions (k,).

        The k reported nearest are measured first: a row reported beyond the ceiling of their farthest is farther.
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
