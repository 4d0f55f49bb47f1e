"""The definition of *nearest*: brute force in float64. It is slow; every faster search is compared with it.

The distance is Euclidean, between fc7 activations (paper, section 6.1). n base rows, q queries, d dimensions.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["distances", "nearest", "ordered"]

ROWS = 64  # base rows in float64 at a time: 2 MB at d = 4096, which stays in a core's cache


def distances(base: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, d), (d,) -> (n,): Euclidean distances, with differences and sums in float64.

    A row's distance does not depend on the other rows of `base`: a few rows get the same bits as all rows together.
    """
    out = np.empty(len(base), np.float64)
    wide = query.astype(np.float64)
    for start in range(0, len(base), ROWS):
        difference = base[start : start + ROWS] - wide
        out[start : start + ROWS] = np.einsum("nd,nd->n", difference, difference)
    return np.sqrt(out, out=out)


def ordered(found: NDArray[np.float64], ids: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """(m,), (m,) -> (min(k, m),): the positions of the k smallest distances, ascending, ties by image id."""
    if k < len(found):  # sort only what can be among the k: up to the k-th distance, ties included
        limit = np.partition(found, k - 1)[k - 1]
        kept = np.flatnonzero(found <= limit)
    else:
        kept = np.arange(len(found))
    return kept[np.lexsort((ids[kept], found[kept]))[:k]].astype(np.int64)


def nearest(
    base: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the k nearest base rows of each query by brute force.

    base (n, d) float32, ids (n,) int64, queries (q, d) float32 -> distances (q, min(k, n)) float64, ascending, and
    image ids (q, min(k, n)) int64; ties by image id.
    """
    shape = (len(queries), min(k, len(base)))
    found, near = np.empty(shape, np.float64), np.empty(shape, np.int64)
    for row, query in enumerate(queries):
        all_of_them = distances(base, query)
        order = ordered(all_of_them, ids, k)
        found[row], near[row] = all_of_them[order], ids[order]
    return found, near
