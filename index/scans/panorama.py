"""FAISS's Panorama over reduced rows: distances are added up level by level, and a row that is too far is left early.

(Ramani et al., 2025, arXiv 2510.00566.) The rows' file is memory-mapped, so opening reads only the lengths of what each
level leaves, 4 bytes a level and row. FAISS cannot map a Panorama index, but a flat index: the levels' bytes are kept
as the rows of one.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import files
from index.manifest import BadBundle
from index.stored import mapped_array, mapped_index, write_index

__all__ = ["BATCH", "LEVEL", "Panorama", "padded"]

LEVEL = 32  # numbers in a level: with more, the first level takes longer than it saves
BATCH = 1024  # rows that go through the levels together; the most neighbours that FAISS gives


class Panorama:
    """Reduced rows (n, w) float32, w a multiple of LEVEL, searched by reduced distance. Any thread may search."""

    def __init__(self, path: Path, count: int, width: int) -> None:
        """Open the files that `write` made for `count` rows of `width` numbers. Raises BadBundle for others."""
        stored = mapped_index(path)
        slots = -(-count // BATCH) * BATCH
        sums = mapped_array(_sums(path), np.float32, 1)
        if (stored.ntotal, stored.d, len(sums)) != (slots, width, slots * (width // LEVEL + 1)):
            raise BadBundle(f"{path}: {stored.ntotal} rows of {stored.d} numbers, not {slots} of {width}")
        self.count = count
        self._index = _empty(width)
        self._index.codes = stored.codes
        self._index.ntotal = count
        faiss.copy_array_to_vector(sums, self._index.cum_sums)

    @staticmethod
    def write(path: Path, rows: NDArray[np.float32]) -> None:
        """Write reduced rows (n, w). Raises OSError."""
        index = _empty(rows.shape[1])
        index.add(rows)
        stored: Any = faiss.IndexFlatL2(rows.shape[1])
        stored.codes = index.codes
        stored.ntotal = -(-len(rows) // BATCH) * BATCH
        files.replace_array(_sums(path), faiss.vector_to_array(index.cum_sums))
        write_index(path, stored)

    def nearest(
        self, query: NDArray[np.float32], k: int, only: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(w,) -> squared reduced distances (j,) ascending and rows (j,) int64, j = min(k, n, BATCH).

        only: what `selector` made of the rows that may be found; j is then their number, if that is smaller.
        """
        squared, rows = self._index.search(query[None], min(k, self.count, BATCH), params=only)
        found = rows[0] >= 0
        return squared[0][found], rows[0][found]

    def within(self, query: NDArray[np.float32], squared: float, only: Any = None) -> NDArray[np.int64]:
        """(w,) -> all rows (j,) whose computed squared distance is below `squared`; only: as in `nearest`."""
        _, _, rows = self._index.range_search(query[None], squared, params=only)
        return np.asarray(rows)

    def selector(self, rows: NDArray[np.int64]) -> Any:
        """Rows (j,) -> what makes `nearest` and `within` find no other; a bit a row of the index."""
        chosen = np.zeros(self.count, np.bool_)
        chosen[rows] = True
        bits: Any = np.packbits(chosen, bitorder="little")
        return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg]  # not in the stubs


def padded(reduced: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(n, m) -> (n, w) float32, filled up with zeros to whole levels. They change no distance."""
    n, m = reduced.shape
    out = np.zeros((n, -(-m // LEVEL) * LEVEL), np.float32)
    out[:, :m] = reduced
    return out


def _empty(width: int) -> Any:
    return faiss.IndexFlatL2Panorama(width, width // LEVEL, BATCH)


def _sums(path: Path) -> Path:
    return path.with_suffix(".sums.npy")
