"""How long a scan takes of a search, so that what is left is known: the exact distances of the rows that it found."""

from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from index.scans.scan import Asked

__all__ = ["Timed"]


class Timed:
    """A scan's answers about q queries, and the seconds that they took. Each query is for one thread at a time."""

    def __init__(self, asked: Asked, queries: int) -> None:
        self._asked = asked
        self.seconds = [0.0] * queries

    def proposed(self, query: int, k: int) -> NDArray[np.int64] | None:
        begun = perf_counter()
        rows = self._asked.proposed(query, k)
        self.seconds[query] += perf_counter() - begun
        return rows

    def within(self, query: int, distance: float) -> NDArray[np.int64] | None:
        begun = perf_counter()
        rows = self._asked.within(query, distance)
        self.seconds[query] += perf_counter() - begun
        return rows
