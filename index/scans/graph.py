"""A graph over reduced rows (HNSW, Malkov and Yashunin, 2018): finds most of the nearest after a look at few rows.

It proves nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.manifest import BadBundle
from index.stored import mapped_index, write_index

__all__ = ["Graph"]

LINKS = 32  # of a row
BUILD = 80  # rows that are looked at to find a new row's links
LEAST = 96  # rows that a search keeps in view, or as many as are wanted


class Graph:
    """Reduced rows (n, w) float32, searched by reduced distance along a graph's links. Any thread may search."""

    def __init__(self, path: Path, count: int, width: int) -> None:
        """Map the file that `write` made for `count` rows of `width` numbers. Raises BadBundle for another."""
        self._index = mapped_index(path)
        if (self._index.ntotal, self._index.d) != (count, width):
            raise BadBundle(f"{path}: {self._index.ntotal} rows of {self._index.d} numbers, not {count} of {width}")

    @staticmethod
    def write(path: Path, rows: NDArray[np.float32]) -> None:
        """Write the graph of rows (n, w); in one thread, so that equal rows give equal bytes. Raises OSError."""
        index = faiss.IndexHNSWFlat(rows.shape[1], LINKS)
        index.hnsw.efConstruction = BUILD
        with ThreadPoolExecutor(1, "graph", initializer=faiss.omp_set_num_threads, initargs=(1,)) as thread:
            thread.submit(index.add, rows).result()
        write_index(path, index)

    def nearest(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(w,) -> squared reduced distances (j,) and rows (j,) int64, j <= k, nearest first; a few may be missed."""
        wider = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]  # the stubs lack it
            efSearch=max(LEAST, k)
        )
        squared, rows = self._index.search(query[None], k, params=wider)
        found = rows[0] >= 0
        return squared[0][found], rows[0][found]
