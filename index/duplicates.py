"""Near-duplicates: rows that are much nearer to each other than to what lies around them.

How far apart two images may be depends on where they lie: some kinds of images crowd together, others are alone. So a
distance is compared with the same image's distance to its K-th nearest, and the limit of that ratio follows from the
data. Were the K rows spread evenly around the image in m dimensions, the j-th distance over the K-th, to the power m,
would be distributed as Beta(j, K - j); the median of all first ratios gives m. A first ratio then has a chance, and the
limit is the largest ratio at which at most FALSE of the images with such a ratio are expected by chance (the procedure
of Benjamini and Hochberg, 1995).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE", "NEIGHBOURS", "groups", "limit", "ratios"]

NEIGHBOURS = 24  # K: an image may have K - 1 near-duplicates and still be told from a crowd
FALSE = 0.01  # share of the found images that chance may explain


def ratios(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances (n, K), ascending -> the same over each row's last, (n, K). All are 0 where the last is."""
    last = distances[:, -1:]
    return np.divide(distances, last, out=np.zeros_like(distances), where=last > 0)


def limit(first: NDArray[np.float64], neighbours: int) -> float:
    """First ratios (n,), the nearest distance over that of neighbour number K -> the largest that is a near-duplicate.

    0 where there are none but at distance 0, or too few neighbours to tell.
    """
    positive = first[first > 0]
    if neighbours < 2 or not len(positive) or np.median(positive) >= 1:
        return 0.0
    dimensions = np.log1p(-(2 ** (-1 / (neighbours - 1)))) / np.log(np.median(positive))
    in_order = np.sort(first)
    # P(ratio <= r) = 1 - (1 - r^m)^(K - 1), which log1p and expm1 keep exact where it is tiny
    with np.errstate(divide="ignore"):  # of the ratio 1: log(0)
        chance = -np.expm1((neighbours - 1) * np.log1p(-(in_order**dimensions)))
    allowed = FALSE * np.arange(1, len(first) + 1) / len(first)
    within = np.flatnonzero(chance <= allowed)
    return float(in_order[within[-1]]) if len(within) else 0.0


def groups(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Pairs of image ids -> the groups that they join, each ascending; the largest first, then by the first id."""
    above: dict[int, int] = {}

    def top(one: int) -> int:
        above.setdefault(one, one)
        while above[one] != one:
            above[one] = above[above[one]]  # halves the path, so that the next search is short
            one = above[one]
        return one

    for one, other in pairs:
        low, high = sorted((top(one), top(other)))
        above[high] = low
    members: dict[int, list[int]] = {}
    for one in sorted(above):
        members.setdefault(top(one), []).append(one)
    return sorted((tuple(group) for group in members.values()), key=lambda group: (-len(group), group))
