"""What the index is compared with. Each form is opened in a process of its own, which imports only what it needs.

A folder holds features.npy (n, d) float32; a form may put its files there first. n rows of d numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUMPY", "Form", "Found", "Search", "in_numpy", "peers"]

NUMPY = "NumPy"
LINKS, CONSTRUCTION, EXPANSION = 32, 40, 64  # FAISS's HNSW: its own first two; 64 is usearch's for searching
BLOCK = 4096  # rows handled together

Rows = NDArray[np.int64]
Found = tuple[Rows, tuple[str, ...]]  # rows (q, k), and how each answer was settled; "" where nothing says it
Search = Callable[[NDArray[np.float32], int], Found]


@dataclass(frozen=True)
class Form:
    """A way to search."""

    name: str
    open: Callable[[Path], Search]
    anonymous: int  # bytes of memory that it takes, and gives back to nobody
    prepare: Callable[[Path], None] | None = None
    scans: bool = False  # it reads every row for a query
    expected_ms: float | None = None  # one query, where the planner knows it
    package: str = ""  # that has to be installed


def peers(rows: int, width: int) -> list[Form]:
    """All baselines for n rows of d numbers."""
    size, links = 4 * rows * width, 8 * LINKS * rows
    return [
        Form(NUMPY, numpy_search, size, scans=True),
        Form(f"{NUMPY}, memory-mapped", partial(numpy_search, mapped=True), 0, scans=True),
        Form("FAISS IndexFlatL2", faiss_flat, size, scans=True),
        Form("FAISS IndexFlatL2Panorama, rotated", rotated_search, size * 33 // 32, rotated_prepare),
        Form("FAISS IndexHNSWFlat", graph_search, size + links, graph_prepare),
        Form("usearch", usearch_search, size + links, usearch_prepare, package="usearch"),
    ]


def in_numpy(features: NDArray[np.float32], lengths: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> Rows:
    """What most people write: nearest rows (q, k) by |x|^2 - 2 x.q, ties and rounding left to chance.

    lengths: the squares |x|^2 (n,).
    """
    products = (features @ queries[0])[None] if len(queries) == 1 else queries @ features.T
    distances = lengths - 2 * products
    nearest = np.argpartition(distances, min(k, len(features)) - 1, axis=1)[:, :k]
    return np.take_along_axis(nearest, np.argsort(np.take_along_axis(distances, nearest, 1), axis=1), 1)


def numpy_search(folder: Path, mapped: bool = False) -> Search:
    features = np.load(folder / "features.npy", mmap_mode="r" if mapped else None)
    lengths = np.einsum("nd,nd->n", features, features)  # without a copy of the features
    return lambda queries, k: (in_numpy(features, lengths, queries, k), ())


def faiss_flat(folder: Path) -> Search:
    import faiss

    features = np.load(folder / "features.npy", mmap_mode="r")
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return _of(index)


def rotated_prepare(folder: Path) -> None:
    """Rotate all d numbers of every row to principal components, and let Panorama store them."""
    import faiss

    features = np.load(folder / "features.npy", mmap_mode="r")
    covariance = np.zeros((features.shape[1],) * 2, np.float32)
    for start in range(0, len(features), BLOCK):
        covariance += features[start : start + BLOCK].T @ features[start : start + BLOCK]
    rotation = np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, ::-1])
    index = faiss.IndexFlatL2Panorama(features.shape[1], 64, 512)
    for start in range(0, len(features), BLOCK):
        index.add(features[start : start + BLOCK] @ rotation)
    np.save(folder / "rotation.npy", rotation)
    faiss.write_index(index, str(folder / "rotated.faiss"))


def rotated_search(folder: Path) -> Search:
    import faiss

    rotation, search = np.load(folder / "rotation.npy"), _of(faiss.read_index(str(folder / "rotated.faiss")))
    return lambda queries, k: search(queries @ rotation, k)


def graph_prepare(folder: Path) -> None:
    import faiss

    features = np.load(folder / "features.npy", mmap_mode="r")
    index = faiss.IndexHNSWFlat(features.shape[1], LINKS)
    index.hnsw.efConstruction = CONSTRUCTION
    index.add(features)
    faiss.write_index(index, str(folder / "graph.faiss"))


def graph_search(folder: Path) -> Search:
    import faiss

    index: Any = faiss.read_index(str(folder / "graph.faiss"))
    index.hnsw.efSearch = EXPANSION
    return _of(index)


def usearch_prepare(folder: Path) -> None:
    """With its own settings, in float32."""
    from usearch.index import Index

    features = np.load(folder / "features.npy", mmap_mode="r")
    index = Index(ndim=features.shape[1], metric="l2sq", dtype="f32")
    for start in range(0, len(features), BLOCK):
        block = np.asarray(features[start : start + BLOCK])
        index.add(np.arange(start, start + len(block), dtype=np.uint64), block)
    index.save(str(folder / "usearch.index"))


def usearch_search(folder: Path) -> Search:
    from usearch.index import Index

    index: Any = Index.restore(str(folder / "usearch.index"))

    def search(queries: NDArray[np.float32], k: int) -> Found:
        return np.asarray(index.search(queries, k).keys).reshape(len(queries), -1).astype(np.int64), ()

    return search


def _of(index: Any) -> Search:
    """Search a FAISS index."""
    return lambda queries, k: (index.search(queries, k)[1], ())
