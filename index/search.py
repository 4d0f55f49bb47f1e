"""Exact search, proven: a scan proposes candidates, float64 settles, and a bound proves that no nearer row is missing.

The proposals are measured; the k-th distance among them cannot be too small. Then the scan names every row that may be
within that distance (a bound on its rounding proves that no other is), those are measured too, and the k nearest are
the answer: `certified`. Where the scan can prove nothing, or thousands of rows are as near, the query is hard: a flat
scan of whole rows may still prove an answer, else brute force gives it: `exact`. Both equal exact.nearest, ids and ties
included.

An answer is `measured` where the caller wants the proposals alone: a few of the nearest may be missing.

Among some images alone the answer is the same as if the collection had no others. A few images are all compared. Of
more, the reduced scan finds those; without one, more than a few thousand are compared slowly.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from index import exact
from index.rounding import widened
from index.rows import AllRows
from index.scans.chosen import Chosen
from index.scans.flat import LIMIT as MOST
from index.scans.flat import FlatScan
from index.scans.reduced import ReducedScan
from index.scans.scan import Asked, Scan, Vectors
from index.scans.timed import Timed

__all__ = ["Answers", "Exactness", "Search", "threads"]

SPARE = 26  # proposals beyond k, so that the k-th distance among them is seldom too large
LIMIT = 512  # proposals, at most
FEW = 1500  # chosen rows that are compared sooner than a reduced scan leaves the others out
SOME = 20_000  # chosen rows that are compared in a few hundredths of a second

Exactness = Literal["certified", "exact", "measured"]
Settled = tuple[NDArray[np.float64], NDArray[np.int64]]  # distances (k,) and image ids (k,)


@dataclass(frozen=True)
class Answers:
    """The nearest images of q queries. k is the number that was asked for, or of all images if they are fewer."""

    distances: NDArray[np.float64]  # (q, k) Euclidean, ascending
    ids: NDArray[np.int64]  # (q, k) ties in the order of image ids
    exactness: tuple[Exactness, ...]  # q
    settled: NDArray[np.bool_]  # (q,) False for a hard query, whose row holds nothing yet
    rerank: float = 0.0  # seconds of the search that went to exact distances; of several queries side by side, a share


class Search:
    """Nearest neighbours among the images of a collection. Any thread may search."""

    def __init__(
        self, rows: AllRows, flat: FlatScan, scan: ReducedScan | None, pool: ThreadPoolExecutor, candidates: int = 0
    ) -> None:
        """flat: the scan of all rows, and the only one where `scan` is None. candidates: see Layout."""
        self._rows, self._flat, self._reduced, self._pool, self._candidates = rows, flat, scan, pool, candidates
        self.device = "cpu" if scan else flat.device  # as in "cpu" or "cuda:0, cuda:1"

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        measured: bool = False,
        among: NDArray[np.int64] | None = None,
    ) -> Answers:
        """(q, d) float32 -> the k nearest of each; with `measured`, without a proof where that is faster.

        among: ids (m,) int64, ascending, of the only images to be found; the answer is then proven in any case.
        Raises GpuFailed; ValueError for another shape or dtype, for numbers that are not finite, and for k < 1.
        """
        found = self.quick(queries, k, measured=measured, among=among)
        exactness = list(found.exactness)
        for row in np.flatnonzero(~found.settled).tolist():
            slow = self.slow(queries[row : row + 1], k, among=among)
            found.distances[row], found.ids[row], exactness[row] = slow.distances[0], slow.ids[0], slow.exactness[0]
        return Answers(found.distances, found.ids, tuple(exactness), np.ones(len(queries), bool), found.rerank)

    def quick(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        measured: bool = False,
        among: NDArray[np.int64] | None = None,
    ) -> Answers:
        """As `search`, but leave hard queries unsettled, because `slow` takes seconds for a large collection."""
        self._check(queries, k)
        if among is not None:
            return self._quick_among(queries, k, self._rows.positions(among))
        how: Exactness = "measured" if measured and self._reduced else "certified"
        k = min(k, self._rows.alive)
        return self._scanned(self._reduced or self._flat, queries, k, how, min(LIMIT, self._wanted(k, how)))

    def slow(self, query: NDArray[np.float32], k: int, *, among: NDArray[np.int64] | None = None) -> Answers:
        """(1, d) float32 -> its k nearest, from whole rows: in float32 where that proves them, else in float64."""
        self._check(query, k)
        if among is not None:
            return self._slow_among(query, k, self._rows.positions(among))
        k = min(k, self._rows.alive)
        if self._reduced:
            found = self._scanned(self._flat, query, k, "certified", MOST)  # at once: each scan reads all rows
            if found.settled.all():
                return found
        distances, ids = self._rows.nearest(query[0], k)
        return Answers(distances[None], ids[None], ("exact",), np.ones(1, bool))

    def _quick_among(self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Answers:
        k = min(k, len(rows))
        if len(rows) <= (FEW if self._reduced else SOME):
            return self._scanned(Chosen(rows), queries, k, "exact", k)
        if self._reduced:
            return self._scanned(self._reduced.among(rows), queries, k, "certified", min(LIMIT, k + SPARE))
        q, how = len(queries), tuple[Exactness, ...](["exact"] * len(queries))
        return Answers(np.empty((q, k), np.float64), np.empty((q, k), np.int64), how, np.zeros(q, bool))

    def _slow_among(self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Answers:
        k = min(k, len(rows))
        found = self._scanned(Chosen(rows), query, k, "exact", k)
        if found.settled.all():
            return found
        distances, ids = self._rows.nearest(query[0], k, rows)
        return Answers(distances[None], ids[None], ("exact",), np.ones(1, bool))

    def _scanned(self, scan: Scan, queries: NDArray[np.float32], k: int, how: Exactness, wanted: int) -> Answers:
        q = len(queries)
        distances, ids, settled = np.empty((q, k), np.float64), np.empty((q, k), np.int64), np.ones(q, bool)
        rerank = 0.0
        if k and q:
            vectors = np.ascontiguousarray(queries)
            lengths = exact.distances(vectors, np.zeros(self._rows.width, np.float32))
            asked = Timed(scan.ask(Vectors(vectors, lengths), wanted), q)
            whole = [0.0] * q

            def settle(row: int) -> Settled | None:
                begun = perf_counter()
                answer = self._settled(asked, row, vectors[row], k, wanted, how)
                whole[row] = perf_counter() - begun
                return answer

            begun = perf_counter()
            with _one_thread():
                found = list(map(settle, range(q)) if q == 1 else self._pool.map(settle, range(q)))
            rerank = (perf_counter() - begun) * (1 - sum(asked.seconds) / (sum(whole) or 1.0))
            for row, answer in enumerate(found):
                if answer is None:
                    settled[row] = False
                else:
                    distances[row], ids[row] = answer
        return Answers(distances, ids, (how,) * q, settled, rerank)

    def _wanted(self, k: int, how: Exactness) -> int:
        """Return how many proposals to ask for, so that about k and some are left without the removed ones."""
        kept = max(self._candidates, 4 * k) if how == "measured" else k + SPARE
        return int(kept / (1 - self._rows.dead_share)) + 1 if self._rows.dead_share else kept

    def _settled(
        self, asked: Asked, row: int, query: NDArray[np.float32], k: int, wanted: int, how: Exactness
    ) -> Settled | None:
        """Return the k nearest of one query, or None for a hard one."""
        proposed = asked.proposed(row, wanted)
        while proposed is not None and len(self._rows.kept(proposed)) < k:
            wanted *= 2
            proposed = asked.proposed(row, wanted) if wanted <= LIMIT else None
        if proposed is None:
            return None
        rows = self._rows.kept(proposed)
        if how == "certified":
            radius = self._beyond(self._rows.squared(query, rows[: k + SPARE]), k) ** 0.5
            within = asked.within(row, radius)
            if within is None:
                return None
            rows = self._rows.kept(within)
        return self._nearest(query, rows, k)

    def _nearest(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Settled:
        """Return the k nearest of some rows. float32 tells which can be among them, float64 which are."""
        squared = self._rows.squared(query, rows)
        rows = rows[squared <= self._beyond(squared, k)]
        found, ids = self._rows.distances(query, rows), self._rows.ids(rows)
        best = exact.ordered(found, ids, k)
        return found[best], ids[best]

    def _beyond(self, squared: NDArray[np.float32], k: int) -> float:
        """Return a number that neither the computed nor the true square of any of the k nearest exceeds."""
        return widened(float(np.partition(squared, k - 1)[k - 1]), self._rows.width)

    def _check(self, queries: NDArray[np.float32], k: int) -> None:
        width = self._rows.width
        if queries.ndim != 2 or queries.shape[1] != width or queries.dtype != np.float32:
            raise ValueError(f"queries must be (q, {width}) float32, not {queries.shape} {queries.dtype}")
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let FAISS use the calling thread alone: its OpenMP threads would wait at full speed, in the way of NumPy's."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def threads() -> ThreadPoolExecutor:
    """Return a thread for each core. In each of them FAISS starts no others."""
    cores = faiss.omp_get_max_threads()
    return ThreadPoolExecutor(cores, "search", initializer=faiss.omp_set_num_threads, initargs=(1,))
