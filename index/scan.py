"""Candidates for the nearest rows: FAISS compares every row in float32 or float16, on CPU cores or on GPUs.

The rows are divided once, one shard for each core or GPU, and each shard has its thread. FAISS could divide the work
over OpenMP threads itself, but then searches from several threads would start that many threads each.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index import exact
from index.rounding import Rounding

__all__ = ["Candidates", "GpuFailed", "Scan", "TooLarge", "gpus_of"]

FEWEST = 2048  # rows in a shard on the CPU: for fewer, a thread costs more time than it saves
LONGEST32 = 1e18  # the square of a longer vector's length may overflow float32
LONGEST16 = 2.0**15  # a longer vector may have components that overflow float16
LARGEST16 = 255.0  # the square of a larger component may overflow float16; FAISS on a GPU squares in float16

Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]


class TooLarge(ValueError):
    """The features are not finite, or too large for the arithmetic of this search; the message says the limit."""


class GpuFailed(RuntimeError):
    """FAISS failed on a GPU that it sees, most often for lack of memory there; the message holds FAISS's reason."""


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


@dataclass(frozen=True)
class Shard:
    """Rows first ... first + count - 1, and the function that searches them."""

    first: int
    count: int
    search: Search


class Scan:
    """Find candidates among features (n, d) float32.

    gpus: the numbers of the GPUs to use; none is the CPU. float16: store the rows in float16. Raises TooLarge for
    features whose squares overflow, GpuFailed, ValueError for a GPU that FAISS does not see.
    """

    def __init__(self, features: NDArray[np.float32], *, gpus: Sequence[int], float16: bool) -> None:
        if not set(gpus) <= set(range(_gpu_count())):
            raise ValueError(f"GPUs {', '.join(map(str, gpus))} asked for, FAISS sees {_gpu_count()}")
        squares16 = float16 and bool(gpus)
        self.rounding = Rounding(features.shape[1], float16, squares16)
        self._longest = LONGEST16 if float16 else LONGEST32
        self._largest = LARGEST16 if squares16 else np.inf
        lengths = exact.distances(features, np.zeros(features.shape[1], np.float32))
        if not self.fits(features, lengths).all():
            components = f", with no component beyond {self._largest:g}" if self._largest < np.inf else ""
            raise TooLarge(
                f"features to be searched in {'float16' if float16 else 'float32'} must be finite and shorter than "
                f"{self._longest:g}{components}"
            )
        if gpus:
            self._shards = [_gpu(features, rows, gpu, float16) for gpu, rows in _divided(len(features), gpus)]
        else:
            cores = range(max(1, min(faiss.omp_get_max_threads(), len(features) // FEWEST)))
            divided = [rows for _, rows in _divided(len(features), cores)]
            norms = np.square(lengths).astype(np.float32)
            self._shards = [_cpu16(features, r) if float16 else _cpu32(features, norms, r) for r in divided]
        # GPU FAISS is not safe for two threads, not even for two readers.
        self._turn: AbstractContextManager[Any] = threading.Lock() if gpus else nullcontext()
        # The number of OpenMP threads is a setting of the calling thread.
        self._pool = ThreadPoolExecutor(
            len(self._shards) or 1, "scan", initializer=faiss.omp_set_num_threads, initargs=(1,)
        )

    def fits(self, vectors: NDArray[np.float32], lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n, d), their lengths (n,) -> (n,): True where no square overflows; False for NaN."""
        fits = lengths < self._longest
        if self._largest < np.inf:  # max and min, because abs would copy the features
            highest, lowest = vectors.max(axis=1, initial=0), vectors.min(axis=1, initial=0)
            fits &= np.maximum(highest, -lowest) <= self._largest
        return fits

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


def gpus_of(device: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that a device means: none for cpu, all for cuda, N for cuda:N.

    Only GPUs that FAISS can use are returned: none for a FAISS that was built for the CPU.
    """
    kind, _, number = device.partition(":")
    wanted = range(_gpu_count()) if kind == "cuda" else range(0)
    return tuple(gpu for gpu in wanted if number in ("", str(gpu)))


def _gpu_count() -> int:
    """Return how many GPUs FAISS can use. A FAISS built for the CPU may lack the function."""
    count: int = getattr(faiss, "get_num_gpus", lambda: 0)()
    return count


def _divided(rows: int, workers: Sequence[int]) -> list[tuple[int, slice]]:
    """Divide the rows between the workers, in order. A worker without rows is left out."""
    edges = [rows * i // len(workers) for i in range(len(workers) + 1)]
    return [(w, slice(a, b)) for w, a, b in zip(workers, edges, edges[1:], strict=False) if a < b]


def _cpu32(features: NDArray[np.float32], norms: NDArray[np.float32], rows: slice) -> Shard:
    """Search the features in place. FAISS's IndexFlatL2 would copy them and compute their norms at each search."""
    base, base_norms = features[rows], norms[rows]
    count, d = base.shape
    # Use a matrix product from two queries on. This is a setting of the whole process; its default depends on d.
    faiss.cvar.distance_compute_blas_threshold = 2 * d

    def search(queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        squared, near = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        pointers = [faiss.swig_ptr(a) for a in (squared, near, base_norms)]
        faiss.knn_L2sqr(faiss.swig_ptr(queries), faiss.swig_ptr(base), d, len(queries), count, k, *pointers)
        return squared, near

    return Shard(rows.start, count, search)


def _cpu16(features: NDArray[np.float32], rows: slice) -> Shard:
    index = faiss.IndexScalarQuantizer(features.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    return _filled(index, features, rows)


def _gpu(features: NDArray[np.float32], rows: slice, device: int, float16: bool) -> Shard:
    config = faiss.GpuIndexFlatConfig()
    config.device, config.useFloat16 = device, float16
    config.use_cuvs = False  # a build with cuVS would use its kernels, for whose arithmetic rounding.py proves nothing
    with _translated(device):
        index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), features.shape[1], config)
        shard = _filled(index, features, rows)

    def search(queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        with _translated(device):
            return shard.search(queries, k)

    return Shard(shard.first, shard.count, search)


@contextmanager
def _translated(device: int) -> Iterator[None]:
    """Turn an error of FAISS on a GPU into GpuFailed, without the addresses and the list that FAISS adds."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).rpartition("failed: ")[2].partition("\n")[0]
        raise GpuFailed(f"FAISS failed on GPU {device}: {reason}; search in float16 or on the CPU") from error


def _filled(index: Any, features: NDArray[np.float32], rows: slice) -> Shard:
    index.add(features[rows])  # in one call, so that a GPU reserves its memory once
    return Shard(rows.start, rows.stop - rows.start, index.search)
