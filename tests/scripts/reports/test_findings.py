"""Near-duplicates, their groups, and images whose neighbours all disagree are found in neighbourhoods."""

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.reports.findings import disagreeing, duplicate_groups, near_duplicates
from scripts.reports.neighbourhoods import Neighbourhoods


def neighbourhoods(
    distances: NDArray[np.float64], ids: NDArray[np.int64], labels: list[int], label_of: list[list[int]] | None = None
) -> Neighbourhoods:
    n, k = distances.shape
    names = np.array(label_of) if label_of else np.zeros((n, k), np.int64)
    return Neighbourhoods(np.arange(n), np.array(labels), ids, distances.astype(np.float32), names)


def spread(n: int = 200, k: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances as of evenly spread images in 20 dimensions, and ids that are of no image."""
    drawn = np.sort(np.random.default_rng(0).random((n, k)), axis=1) ** (1 / 20)
    return drawn, np.arange(1000, 1000 + n * k).reshape(n, k)


def test_pairs_are_found_the_nearest_first_and_joined() -> None:
    distances, ids = spread()
    distances[[3, 5, 7], 0] = [0.2, 0.1, 0.3]
    distances[3, 1] = 0.25
    ids[[3, 5, 7], 0] = [50, 3, 60]
    ids[3, 1] = 51
    found = near_duplicates(neighbourhoods(distances, ids, [0] * 200))
    assert [pair[:2] for pair in found.pairs] == [(5, 3), (3, 50), (3, 51), (7, 60)]
    assert found.pairs[0][2:] == pytest.approx((0.1, 0.1 / distances[5, -1]))
    assert 0.3 <= found.limit < 0.6
    assert duplicate_groups(found) == [(3, 5, 50, 51), (7, 60)]


def test_nothing_is_found_where_nothing_is_near() -> None:
    found = near_duplicates(neighbourhoods(*spread(), [0] * 200))
    assert (found.pairs, found.limit) == ((), 0.0)
    assert near_duplicates(neighbourhoods(np.empty((1, 0)), np.empty((1, 0), np.int64), [0])).pairs == ()


def test_an_image_is_odd_where_all_six_have_another_label() -> None:
    label_of = [
        [1, 1, 1, 1, 1, 2, 0],  # odd, five of one class; the seventh does not count
        [1, 1, 1, 1, 1, 0, 1],  # one agrees
        [1, 1, 1, 1, 1, -1, 1],  # one has no label
        [2, 2, 2, 2, 2, 2, 2],  # odd, all of one class
        [1, 1, 1, 1, 1, 1, 1],  # itself without a label
        [3, 3, 3, 3, 3, 3, 3],  # odd, all of one class, and nearer
    ]
    distances = np.full((6, 7), 2.0)
    distances[5] = 1.0
    near = neighbourhoods(distances, np.zeros((6, 7), np.int64), [0, 0, 0, 0, -1, 0], label_of)
    assert [(one.image, one.votes) for one in disagreeing(near)] == [(5, 6), (3, 6), (0, 5)]


def test_fewer_than_six_neighbours_disagree_with_nothing() -> None:
    near = neighbourhoods(np.ones((1, 5)), np.zeros((1, 5), np.int64), [0], [[1, 1, 1, 1, 1]])
    assert disagreeing(near) == []
