"""The index itself, as the planner lays it out, beside its peers."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import FlatIndex
from index.planner import Choice
from scripts.benchmarks.index_forms import Form, Found, Search

__all__ = ["ours"]


def ours(choice: Choice) -> list[Form]:
    """The forms of a layout."""
    return [Form("fc7, flat", flat_search, 0, scans=True, expected_ms=choice.expected_ms)]


def flat_search(folder: Path) -> Search:
    features = np.load(folder / "features.npy", mmap_mode="r")
    index = FlatIndex(features, np.arange(len(features)))

    def search(queries: NDArray[np.float32], k: int) -> Found:
        return index.search(queries, k)[1], ()

    return search
