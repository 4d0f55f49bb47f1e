"""Near-duplicates are found beside others, whatever the scale; evenly spread rows have none; groups are joined."""

import numpy as np
import pytest
from numpy.typing import NDArray

from index import duplicates, exact

K = duplicates.NEIGHBOURS


def distances(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances (n, K) of each row to the nearest others."""
    return exact.nearest(rows, np.arange(len(rows)), rows, K + 1)[0][:, 1:]


def spread(seed: int = 0, count: int = 900, d: int = 12) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, d), dtype=np.float32)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_a_copy_that_is_almost_equal_is_found_and_nothing_else_whatever_the_scale(scale: float) -> None:
    rows = spread()
    rows[100:130] = rows[:30] + 0.02 * spread(1, 30)
    rows[450:] *= 40  # half of the images are much farther apart
    of_rows = duplicates.ratios(distances((rows * scale).astype(np.float32)))
    limit = duplicates.limit(of_rows[:, 0], K)
    assert np.flatnonzero(of_rows[:, 0] <= limit).tolist() == [*range(30), *range(100, 130)]


def test_rows_that_are_spread_evenly_have_none() -> None:
    for seed in range(5):
        of_rows = duplicates.ratios(distances(spread(seed)))
        assert (of_rows[:, 0] <= duplicates.limit(of_rows[:, 0], K)).sum() == 0


def test_equal_rows_are_found_even_where_they_are_all_that_an_image_sees() -> None:
    rows = spread()
    rows[: K + 1] = rows[0]
    of_rows = duplicates.ratios(distances(rows))
    limit = duplicates.limit(of_rows[:, 0], K)
    assert np.flatnonzero(of_rows[:, 0] <= limit).tolist() == list(range(K + 1))


@pytest.mark.parametrize(("first", "neighbours"), [([], K), ([0.5, 0.5], 1), ([0.0, 0.0], K), ([1.0, 1.0], K)])
def test_where_nothing_can_be_told_only_distance_0_counts(first: list[float], neighbours: int) -> None:
    assert duplicates.limit(np.array(first), neighbours) == 0.0


def test_pairs_join_into_groups_the_largest_first() -> None:
    pairs = [(9, 8), (1, 5), (30, 20), (5, 3), (20, 10), (10, 40), (8, 9)]
    assert duplicates.groups(pairs) == [(10, 20, 30, 40), (1, 3, 5), (8, 9)]
    assert duplicates.groups([]) == []


def test_a_long_chain_is_one_group() -> None:
    assert duplicates.groups((n + 1, n) for n in range(5000)) == [tuple(range(5001))]
