"""Exact search over features in memory."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.layout import flat_search

__all__ = ["FlatIndex", "Searcher"]

Found = tuple[NDArray[np.float64], NDArray[np.int64]]


class Searcher(Protocol):
    """What the service needs of a search."""

    device: str  # where it runs, as in "cpu" or "cuda:0, cuda:1"

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """(q, d) float32 -> distances (q, min(k, n)) float64 ascending, image ids (q, min(k, n)) int64."""
        ...


class FlatIndex:
    """index.layout.flat_search, with the distances and the ids alone."""

    def __init__(
        self, features: NDArray[np.float32], ids: NDArray[np.int64], *, gpus: Sequence[int] = (), float16: bool = False
    ) -> None:
        self._search = flat_search(features, ids, gpus=gpus, float16=float16)
        self.device = self._search.device

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """As Search.search."""
        answers = self._search.search(queries, k)
        return answers.distances, answers.ids
