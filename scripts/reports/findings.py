"""What neighbourhoods show: near-duplicates of held-out images, groups of them in the collection, and odd labels."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.duplicates import groups, limit, ratios
from scripts.reports.neighbourhoods import Neighbourhoods

__all__ = ["SIX", "Disagreeing", "Near", "disagreeing", "duplicate_groups", "near_duplicates"]

SIX = 6  # neighbours that must disagree


@dataclass(frozen=True)
class Near:
    """Images whose nearest are near-duplicates."""

    limit: float  # of the distance over that of the K-th nearest; up to it, a neighbour is a near-duplicate
    first: NDArray[np.float64]  # (n,): the nearest distances over those of the K-th nearest
    pairs: tuple[tuple[int, int, float, float], ...]  # image, indexed image, distance, ratio; the smallest ratio first


@dataclass(frozen=True)
class Disagreeing:
    """An image that is labelled unlike each of its six nearest."""

    image: int
    row: int  # in the neighbourhoods
    votes: int  # of the six, for the class that most of them have


def near_duplicates(near: Neighbourhoods) -> Near:
    """Find the pairs (image, neighbour) that are nearer than their surroundings explain; see index.duplicates."""
    of_rows = ratios(near.distances.astype(np.float64))
    k = of_rows.shape[1]
    first = of_rows[:, 0] if k else np.ones(len(of_rows))
    most = limit(first, k)
    rows, places = np.nonzero(of_rows <= most)
    order = np.lexsort((places, rows, of_rows[rows, places]))
    pairs = tuple(
        (int(near.images[i]), int(near.ids[i, j]), float(near.distances[i, j]), float(of_rows[i, j]))
        for i, j in zip(rows[order], places[order], strict=True)
    )
    return Near(most, first, pairs)


def duplicate_groups(found: Near) -> list[tuple[int, ...]]:
    """Return the groups of indexed images that pairs of near-duplicates join, the largest first."""
    return groups((image, other) for image, other, _, _ in found.pairs)


def disagreeing(near: Neighbourhoods) -> list[Disagreeing]:
    """Return the labelled images whose six nearest all have a label, and another one.

    First those whose six agree most with each other, and of these the ones that are nearest to them.
    """
    six = near.label_of[:, :SIX]
    odd = (near.labels >= 0) & (six >= 0).all(axis=1) & (six != near.labels[:, None]).all(axis=1)
    rows = np.flatnonzero(odd & (six.shape[1] == SIX)).tolist()
    found = [Disagreeing(int(near.images[i]), i, Counter(six[i].tolist()).most_common(1)[0][1]) for i in rows]
    return sorted(found, key=lambda one: (-one.votes, near.distances[one.row, 0], one.image))
