"""The k nearest rows of many queries by brute force in float64, a block of rows at a time."""

import numpy as np
from numpy.typing import NDArray

from index import exact

__all__ = ["nearest"]

ROWS = 2048  # in float64 at a time
SPARE = 26  # candidates beyond k


def nearest(
    features: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n, d), (q, d) -> distances (q, k) ascending and rows (q, k), those of exact.nearest, bit for bit.

    A matrix product of float64 proposes; exact.distances decides, and where the product's rounding could hide a row
    from it, exact.nearest answers.
    """
    wide = queries.astype(np.float64)
    lengths = np.einsum("qd,qd->q", wide, wide)
    kept, longest = min(k + SPARE, len(features)), 0.0
    best, rows = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(features), ROWS):
        block = features[start : start + ROWS].astype(np.float64)
        squares = np.einsum("nd,nd->n", block, block)
        longest = max(longest, float(squares.max()))
        best = np.concatenate([best, squares - 2 * (wide @ block.T) + lengths[:, None]], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(start, start + len(block)), (len(queries), 1))], axis=1)
        if best.shape[1] > kept:
            among = np.argpartition(best, kept - 1, axis=1)[:, :kept]
            best, rows = np.take_along_axis(best, among, 1), np.take_along_axis(rows, among, 1)
    margin = 4 * (features.shape[1] + 8) * 2.0**-53 * (np.sqrt(longest) + np.sqrt(lengths)) ** 2
    k = min(k, len(features))
    found, near = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for i, query in enumerate(queries):
        distances = exact.distances(features[rows[i]], query)
        order = exact.ordered(distances, rows[i], k)
        found[i], near[i] = distances[order], rows[i][order]
        if kept < len(features) and best[i].max() <= found[i, -1] ** 2 + margin[i]:
            (found[i],), (near[i],) = exact.nearest(features, np.arange(len(features)), query[None], k)
    return found, near
