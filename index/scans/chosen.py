"""A scan of some rows that leaves none of them out: all are compared."""

import numpy as np
from numpy.typing import NDArray

from index.scans.scan import LONGEST32, Vectors

__all__ = ["Chosen"]


class Chosen:
    """Rows (j,) of all segments' rows."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self._rows = rows

    def ask(self, queries: Vectors, k: int) -> "Asked":
        """Give the same rows for every query."""
        del k
        return Asked(self._rows, queries.lengths < LONGEST32)


class Asked:
    """The rows, for each query that float32 arithmetic can hold."""

    def __init__(self, rows: NDArray[np.int64], fits: NDArray[np.bool_]) -> None:
        self._rows, self._fits = rows, fits

    def proposed(self, query: int, k: int) -> NDArray[np.int64] | None:
        """All rows; None for a query whose square overflows."""
        del k
        return self._rows if self._fits[query] else None

    def within(self, query: int, distance: float) -> NDArray[np.int64] | None:
        """All rows."""
        del query, distance
        return self._rows
