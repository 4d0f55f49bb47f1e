"""exact.nearest, the definition, is compared with the textbook's formula."""

import numpy as np

from index import exact


def test_distances_are_the_formula() -> None:
    rng = np.random.default_rng(0)
    base, query = rng.standard_normal((130, 4096), dtype=np.float32), rng.standard_normal(4096, dtype=np.float32)
    formula = [np.linalg.norm(row.astype(np.float64) - query.astype(np.float64)) for row in base]
    np.testing.assert_allclose(exact.distances(base, query), formula, rtol=1e-14)


def test_a_row_is_measured_the_same_in_any_company() -> None:
    rng = np.random.default_rng(1)
    for d in (1, 2, 3, 17, 4096):
        base, query = rng.standard_normal((150, d), dtype=np.float32), rng.standard_normal(d, dtype=np.float32)
        together = exact.distances(base, query)
        alone = [exact.distances(base[row : row + 1], query)[0] for row in range(len(base))]
        assert (together == alone).all()


def test_ties_go_to_the_smaller_image_id() -> None:
    base = np.array([[1.0], [3.0], [1.0], [1.0], [0.0]], np.float32)
    distances, ids = exact.nearest(base, np.array([9, 1, 7, 8, 20]), np.array([[0.0], [1.0]], np.float32), 3)
    assert ids.tolist() == [[20, 7, 8], [7, 8, 9]]
    assert distances.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_more_neighbours_than_rows_gives_all_rows() -> None:
    base = np.array([[1.0], [3.0]], np.float32)
    distances, ids = exact.nearest(base, np.array([5, 6]), base[:1], 9)
    assert ids.tolist() == [[5, 6]]
    assert distances.dtype == np.float64
    assert ids.dtype == np.int64
