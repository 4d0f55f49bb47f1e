"""What a scan is: it proposes rows that may be the nearest, and says which rows cannot be within a distance.

A row is a position in all segments' rows one after the other. n rows, q queries, d dimensions.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["LONGEST32", "Asked", "Rows", "Scan", "TooLarge", "Vectors"]

LONGEST32 = 1e18  # the square of a longer vector's length may overflow float32


class TooLarge(ValueError):
    """The features are not finite, or too large for the arithmetic of this search; the message says the limit."""


@dataclass(frozen=True)
class Rows:
    """Rows of one segment."""

    features: NDArray[np.float32]  # (n, d) in C order, read only
    ids: NDArray[np.int64]  # (n,)
    lengths: NDArray[np.float64]  # (n,)


@dataclass(frozen=True)
class Vectors:
    """Queries."""

    vectors: NDArray[np.float32]  # (q, d)
    lengths: NDArray[np.float64]  # (q,)


class Scan(Protocol):
    """A way to find candidates. Any thread may use it."""

    def ask(self, queries: Vectors, k: int) -> "Asked":
        """Prepare the answers about queries for which about k rows each are wanted. Raises what the engine does."""


class Asked(Protocol):
    """A scan's answers about some queries."""

    def proposed(self, query: int, k: int) -> NDArray[np.int64] | None:
        """Rows (m,) that are probably the nearest to the query, m >= min(k, n) or the most that the scan can propose.

        Nearest first, as far as the scan can tell. None for a query that the scan's arithmetic cannot hold.
        """

    def within(self, query: int, distance: float) -> NDArray[np.int64] | None:
        """Rows (m,), among them every row whose true distance to the query is at most `distance`: this is proven.

        None where the scan cannot prove it, or where too many rows are left.
        """
