"""A projection keeps a vector's most important part, and never lengthens a distance by more than its error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index.layout import lengths_of
from index.projection import Projection, fit, with_rest

values = st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e15]) | st.floats(-1e4, 1e4, width=32)


def reduced(projection: Projection, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return with_rest(projection.components(vectors, 0, len(projection.basis)), lengths_of(vectors)).astype(np.float64)


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 20)), elements=values), st.integers(1, 9))
def test_distances_between_reduced_vectors_never_exceed_the_true_ones(vectors: NDArray[np.float32], m: int) -> None:
    projection = Projection(fit(vectors, m))
    few, true = reduced(projection, vectors), vectors.astype(np.float64)
    error = projection.error * lengths_of(vectors) + projection.tiny
    for i in range(len(vectors)):
        kept, whole = np.linalg.norm(few - few[i], axis=1), np.linalg.norm(true - true[i], axis=1)
        assert (kept <= (whole + error + error[i]) * (1 + 1e-12)).all()


def test_the_error_is_small_for_a_good_basis_and_honest_for_a_bad_one() -> None:
    rng = np.random.default_rng(0)
    good = fit(rng.standard_normal((500, 256), dtype=np.float32), 32)
    assert Projection(good).error < 1e-4
    bad = good + 1e-3 * rng.standard_normal(good.shape)
    assert Projection(bad).error > np.linalg.norm(bad @ bad.T - np.eye(32))


@pytest.mark.parametrize("defect", [1e-12, 1e-9, 1e-6])
def test_the_error_counts_what_a_basis_that_is_too_short_leaves_in_the_rest(defect: float) -> None:
    """Nothing is left of a vector in the span of the components, but the root of the defect is found there."""
    projection = Projection((1 - defect) * np.eye(3, 5))
    vectors = np.array([[1, 2, 3, 0, 0], [0, 0, 7, 0, 0]], np.float32)
    exactly = np.concatenate([np.zeros((2, 1)), vectors[:, :3]], axis=1)
    off = np.linalg.norm(reduced(projection, vectors) - exactly, axis=1)
    assert (off > defect**0.5 * lengths_of(vectors)).all()
    assert (off <= projection.error * lengths_of(vectors)).all()


@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_a_length_is_kept(rows: int) -> None:
    """The rest's length and the components together have the length of the whole vector."""
    vectors = np.random.default_rng(1).standard_normal((rows, 64), dtype=np.float32)
    projection = Projection(fit(vectors, 8))
    np.testing.assert_allclose(np.linalg.norm(reduced(projection, vectors), axis=1), lengths_of(vectors), rtol=1e-6)


def test_the_basis_holds_the_strong_directions_first() -> None:
    rng = np.random.default_rng(2)
    turn, _ = np.linalg.qr(rng.standard_normal((100, 100)))
    strength = np.where(np.arange(100) < 5, 10.0, 0.1) * (1 - np.arange(100) / 200)
    vectors = ((rng.standard_normal((2000, 100)) * strength) @ turn).astype(np.float32)
    basis = fit(vectors, 5)
    held = np.square(basis @ turn.T[:, :5]).sum()
    assert held > 5 * 0.999
    lengths = np.linalg.norm(vectors @ basis.T, axis=0)
    assert (np.diff(lengths) < 0).all()


@pytest.mark.parametrize(("rows", "d", "m"), [(1, 7, 3), (3, 7, 20), (2, 700, 512), (9000, 8, 4)])
def test_a_basis_is_orthonormal_and_the_same_each_time(rows: int, d: int, m: int) -> None:
    vectors = np.maximum(np.random.default_rng(3).standard_normal((rows, d)), 0).astype(np.float32)
    basis = fit(vectors, m)
    assert basis.shape == (min(m, d), d)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)
    assert fit(vectors, m).tobytes() == basis.tobytes()


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e17])
def test_numbers_of_any_size_have_a_basis(scale: float) -> None:
    vectors = (scale * np.random.default_rng(4).standard_normal((20, 30))).astype(np.float32)
    assert np.isfinite(fit(vectors, 4)).all()
