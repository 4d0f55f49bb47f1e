"""Shards of rows in FAISS, for the flat scan: float32 or float16, on a CPU core or on a GPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.scans.scan import Rows

__all__ = ["GpuFailed", "Shard", "gpu_count", "gpus_of", "shards"]

FEWEST = 2048  # rows in a shard on the CPU: for fewer, a thread costs more time than it saves

Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]


class GpuFailed(RuntimeError):
    """FAISS failed on a GPU that it sees, most often for lack of memory there; the message holds FAISS's reason."""


@dataclass(frozen=True)
class Shard:
    """Rows first ... first + count - 1, and the function that searches them."""

    first: int
    count: int
    search: Search


def gpus_of(device: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs that a device means: none for cpu, all for cuda, N for cuda:N.

    Only GPUs that FAISS can use are returned: none for a FAISS that was built for the CPU.
    """
    kind, _, number = device.partition(":")
    wanted = range(gpu_count()) if kind == "cuda" else range(0)
    return tuple(gpu for gpu in wanted if number in ("", str(gpu)))


def gpu_count() -> int:
    """Return how many GPUs FAISS can use. A FAISS built for the CPU may lack the function."""
    count: int = getattr(faiss, "get_num_gpus", lambda: 0)()
    return count


def shards(segment: Rows, first: int, gpus: Sequence[int], float16: bool) -> list[Shard]:
    """Divide a segment's rows, in order, between the GPUs or the cores; `first` is the position of its first row."""
    features, count = segment.features, len(segment.ids)
    if gpus:
        return [
            _gpu(features, rows, first, gpu, float16)
            for gpu, rows in zip(gpus, _divided(count, len(gpus)), strict=False)
        ]
    parts = _divided(count, max(1, min(faiss.omp_get_max_threads(), count // FEWEST)))
    if float16:
        return [_cpu16(features, rows, first) for rows in parts]
    norms = np.square(segment.lengths).astype(np.float32)
    return [_cpu32(features, norms, rows, first) for rows in parts]


def _divided(rows: int, parts: int) -> list[slice]:
    """Divide the rows, in order. A part without rows is left out."""
    edges = [rows * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def _cpu32(features: NDArray[np.float32], norms: NDArray[np.float32], rows: slice, first: int) -> Shard:
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

    return Shard(first + rows.start, count, search)


def _cpu16(features: NDArray[np.float32], rows: slice, first: int) -> Shard:
    index = faiss.IndexScalarQuantizer(features.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    return _filled(index, features, rows, first)


def _gpu(features: NDArray[np.float32], rows: slice, first: int, device: int, float16: bool) -> Shard:
    config = faiss.GpuIndexFlatConfig()
    config.device, config.useFloat16 = device, float16
    config.use_cuvs = False  # a build with cuVS would use its kernels, for whose arithmetic rounding.py proves nothing
    with _translated(device):
        index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), features.shape[1], config)
        shard = _filled(index, features, rows, first)

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


def _filled(index: Any, features: NDArray[np.float32], rows: slice, first: int) -> Shard:
    index.add(features[rows])  # in one call, so that a GPU reserves its memory once
    return Shard(first + rows.start, rows.stop - rows.start, index.search)
