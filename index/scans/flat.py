"""Flat scan: FAISS compares every row in float32 or float16, on CPU cores or on GPUs.

Every segment is divided once, one shard for each core or GPU. FAISS could divide the work over OpenMP threads itself,
but then searches from several threads would start that many threads each.

Memory for n rows of d numbers. CPU: float32 reads the features in place (a memory-mapped file stays in the page cache)
and adds 4 n bytes; float16 adds 2 n d. GPUs: 4 n d bytes, or 2 n d in float16, divided between them, and FAISS's
scratch space on each.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.rounding import Rounding
from index.scans.scan import LONGEST32, Rows, TooLarge, Vectors
from index.scans.shards import Shard, gpu_count, shards

__all__ = ["Candidates", "FlatScan"]

LIMIT = 1024  # candidates in the last scan; FAISS on a GPU selects at most 2048
LONGEST16 = 2.0**15  # a longer vector may have components that overflow float16
LARGEST16 = 255.0  # the square of a larger component may overflow float16; FAISS on a GPU squares in float16


@dataclass(frozen=True)
class Candidates:
    """What FAISS found for q queries: m rows each, in no particular order."""

    squared: NDArray[np.float32]  # (q, m) squared distances, rounded
    rows: NDArray[np.int64]  # (q, m) positions in the features; negative where FAISS found nothing
    left_out: NDArray[np.float32]  # (q,) every row outside `rows` was reported at least this far; inf if there is none

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(q,) True where every candidate is a row at a finite distance; False where a number overflowed."""
        return np.asarray(np.all((self.rows >= 0) & np.isfinite(self.squared), axis=1))


class FlatScan:
    """Find candidates among the rows of all segments.

    gpus: the numbers of the GPUs to use; none is the CPU. float16: store the rows in float16. Raises TooLarge for
    features whose squares overflow, GpuFailed, ValueError for a GPU that FAISS does not see.
    """

    def __init__(self, segments: Sequence[Rows], *, gpus: Sequence[int], float16: bool) -> None:
        if not set(gpus) <= set(range(gpu_count())):
            raise ValueError(f"GPUs {', '.join(map(str, gpus))} asked for, FAISS sees {gpu_count()}")
        self.device = ", ".join(f"cuda:{gpu}" for gpu in gpus) or "cpu"
        squares16 = float16 and bool(gpus)
        self.rounding = Rounding(segments[0].features.shape[1], float16, squares16)
        self._longest = LONGEST16 if float16 else LONGEST32
        self._largest = LARGEST16 if squares16 else np.inf
        self._shards: list[Shard] = []
        first = 0
        for segment in segments:
            self._check(segment, float16)
            self._shards += shards(segment, first, gpus, float16)
            first += len(segment.ids)
        # GPU FAISS is not safe for two threads, not even for two readers.
        self._turn: AbstractContextManager[Any] = threading.Lock() if gpus else nullcontext()
        # The number of OpenMP threads is a setting of the calling thread.
        workers = max(1, min(len(self._shards), len(gpus) or faiss.omp_get_max_threads()))
        self._pool = ThreadPoolExecutor(workers, "scan", initializer=faiss.omp_set_num_threads, initargs=(1,))

    def _check(self, segment: Rows, float16: bool) -> None:
        if not self.fits(segment.features, segment.lengths).all():
            components = f", with no component beyond {self._largest:g}" if self._largest < np.inf else ""
            raise TooLarge(
                f"features to be searched in {'float16' if float16 else 'float32'} must be finite and shorter than "
                f"{self._longest:g}{components}"
            )

    def fits(self, vectors: NDArray[np.float32], lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n, d), their lengths (n,) -> (n,): True where no square overflows; False for NaN."""
        fits = lengths < self._longest
        if self._largest < np.inf:  # max and min, because abs would copy the features
            highest, lowest = vectors.max(axis=1, initial=0), vectors.min(axis=1, initial=0)
            fits &= np.maximum(highest, -lowest) <= self._largest
        return fits

    def ask(self, queries: Vectors, k: int) -> "Asked":
        """Scan for all queries at once. Raises GpuFailed."""
        return Asked(self, queries, k)

    def candidates(self, queries: NDArray[np.float32], k: int) -> Candidates:
        """Find, for queries (q, d) float32 in C order that fit, at least the k rows that are reported nearest.

        Raises GpuFailed.
        """
        with self._turn:
            asked = [self._pool.submit(shard.search, queries, min(k, shard.count)) for shard in self._shards]
            found = [search.result() for search in asked]
        left_out = np.full(len(queries), np.inf, np.float32)
        for shard, (squared, _) in zip(self._shards, found, strict=True):
            if k < shard.count:
                left_out = np.minimum(left_out, squared[:, -1])
        rows = [rows + shard.first for shard, (_, rows) in zip(self._shards, found, strict=True)]
        return Candidates(np.concatenate([s for s, _ in found], axis=1), np.concatenate(rows, axis=1), left_out)


class Asked:
    """The flat scan's candidates for some queries."""

    def __init__(self, scan: FlatScan, queries: Vectors, k: int) -> None:
        self._scan, self._queries = scan, queries
        self._fits = scan.fits(queries.vectors, queries.lengths)
        self._wanted = np.full(len(queries.vectors), k)
        self._found = _each(scan.candidates(np.where(self._fits[:, None], queries.vectors, np.float32(0)), k))

    def proposed(self, query: int, k: int) -> NDArray[np.int64] | None:
        """At least min(k, n) rows, as reported nearest first; None where a number overflows or k is beyond LIMIT."""
        if not self._fits[query]:
            return None
        while self._wanted[query] < k:
            if not self._ask_for_more(query):
                return None
        found = self._found[query]
        return found.rows if found.valid else None

    def within(self, query: int, distance: float) -> NDArray[np.int64] | None:
        """Every row at `distance` or nearer, and some others; None where LIMIT candidates do not prove that.

        If FAISS reported a larger number for every row that it left out than it can report for a row at `distance`,
        none of those rows is that near. Otherwise twice as many candidates are asked for.
        """
        ceiling = self._scan.rounding.ceiling(distance, float(self._queries.lengths[query]))
        while self._found[query].left_out <= ceiling:
            if not self._ask_for_more(query):
                return None
        found = self._found[query]
        return found.rows[: np.searchsorted(found.squared, ceiling, side="right")] if found.valid else None

    def _ask_for_more(self, query: int) -> bool:
        wanted = 2 * int(self._wanted[query])
        if wanted > LIMIT:
            return False
        self._wanted[query] = wanted
        self._found[query] = _each(self._scan.candidates(self._queries.vectors[query : query + 1], wanted))[0]
        return True


@dataclass(frozen=True)
class Found:
    """The candidates for one query, as reported nearest first."""

    squared: NDArray[np.float32]  # (m,)
    rows: NDArray[np.int64]  # (m,)
    left_out: float
    valid: bool


def _each(candidates: Candidates) -> list[Found]:
    order = np.argsort(candidates.squared, axis=1)
    squared, rows = (np.take_along_axis(a, order, 1) for a in (candidates.squared, candidates.rows))
    return [Found(*of) for of in zip(squared, rows, candidates.left_out, candidates.valid, strict=True)]
