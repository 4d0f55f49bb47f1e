"""The bounds hold for the largest errors that they allow for, and for what float32 really does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import exact
from index.rounding import Reduced, widened

lengths = st.floats(0, 1e17)


@settings(max_examples=300)
@given(lengths, lengths, st.floats(0, 1e-3), st.floats(0, 1e-40))
def test_reduced_vectors_that_are_off_as_far_as_allowed_stay_under_the_ceiling(
    norm: float, distance: float, relative: float, tiny: float
) -> None:
    """On one line, both moved apart by all that `relative` and `tiny` allow, and FAISS rounding up."""
    bound = Reduced(64, 2, relative, tiny)
    near, far = norm, norm + distance
    apart = (far + relative * far + tiny) - (near - relative * near - tiny)
    unit = 2.0**-24
    rounded = 80 * unit * (norm + far) ** 2  # of a chain of that many operations
    assert apart**2 + rounded <= bound.ceiling(distance, norm)


def flushed(number: float) -> float:
    """What float32 arithmetic that knows no numbers below 2^-126 makes of a result."""
    return 0.0 if abs(number) < 2.0**-126 else float(np.float32(number))


def test_squares_that_underflow_stay_under_the_ceiling() -> None:
    """The rest's length of one vector is lost, and multiplied with the other's, which is far larger."""
    dimensions, levels, rest = 64, 2, 32
    small, unit = 0.99 * 2.0**-63, 2.0**-24
    large = small * 2 / (2 * (dimensions + levels + 16) * unit)  # where the bound on rounding is smallest beside it
    x = sum(flushed(small * small) for _ in range(rest))  # all of either vector is behind the first level
    y = rest * flushed(large * large)
    assert x == 0
    lower = y + x - 2 * y**0.5 * x**0.5
    true = rest**0.5 * (large - small)
    assert lower <= Reduced(dimensions, levels, 0, 0).ceiling(true, rest**0.5 * small)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4096), st.sampled_from([1e-22, 1e-3, 1.0, 1e15]))
def test_a_float32_sum_of_squares_is_below_the_widened_one(seed: int, d: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows, query = ((scale * rng.standard_normal((n, d))).astype(np.float32) for n in (20, 1))
    difference = rows - query
    summed = np.einsum("nd,nd->n", difference, difference)
    for true, found in zip(exact.distances(rows, query[0]), summed, strict=True):
        assert found <= widened(float(true) ** 2, d)
        assert true**2 <= widened(float(found), d)


def test_a_widened_number_is_no_wider_than_it_must_be() -> None:
    """Else every row would be measured twice, and the answers would still be right."""
    assert widened(1.0, 4096) < 1.001


@pytest.mark.parametrize("norm", [0.0, 10.0])
def test_a_ceiling_is_near_the_squared_distance(norm: float) -> None:
    assert Reduced(544, 17, 5e-5, 0).ceiling(10.0, norm) < 100 * 1.01
