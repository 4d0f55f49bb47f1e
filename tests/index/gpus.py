"""A stand-in for FAISS's GPUs, with the float16 arithmetic of its kernels in NumPy."""

from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from index.scans.shards import gpus_of


class GpuIndexFlatL2:
    """The part of faiss.GpuIndexFlatL2 that the code uses. `made` lists the indexes made since `install`."""

    made: "list[GpuIndexFlatL2]"

    def __init__(self, resources: object, dimensions: int, config: Any) -> None:
        del resources, dimensions
        self.device, self.float16 = config.device, config.useFloat16
        assert not config.use_cuvs, "the bound holds for FAISS's own kernels"
        self.made.append(self)

    def add(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(q, k) squared distances and rows; where a number overflows, inf and -1."""
        squared = np.stack([reported(query, self.rows, self.float16) for query in queries])
        rows = np.argsort(squared, axis=1)[:, :k]
        squared = np.take_along_axis(squared, rows, 1)
        return squared, np.where(np.isfinite(squared), rows, -1)


def reported(query: NDArray[np.float32], rows: NDArray[np.float32], float16: bool) -> NDArray[np.float32]:
    """(d,), (n, d) -> (n,): x.x + y.y - 2 x.y in float32, of squares that were computed in the stored type."""
    stored = np.float16 if float16 else np.float32
    with np.errstate(over="ignore"):
        x, y = query.astype(stored), rows.astype(stored)
        norms = np.square(y).astype(np.float32).sum(axis=1) + np.square(x).astype(np.float32).sum()
    found: NDArray[np.float32] = norms - 2 * (y.astype(np.float32) @ x.astype(np.float32))
    return found


def numbers(device: str) -> tuple[int, ...]:
    """Return a device's GPUs; skip the test where FAISS cannot use them."""
    found = gpus_of(device)
    if device != "cpu" and not found:
        pytest.skip("FAISS sees no GPU here")
    return found


def install(monkeypatch: pytest.MonkeyPatch, count: int) -> list[GpuIndexFlatL2]:
    """Let FAISS see `count` GPUs. Return the list to which each index made on them is added."""
    GpuIndexFlatL2.made = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: count, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", type("GpuIndexFlatConfig", (), {"use_cuvs": True}), raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatL2", GpuIndexFlatL2, raising=False)
    return GpuIndexFlatL2.made
