"""float16 on a GPU: squares of numbers above 255 overflow; where a scan overflows, exact.nearest answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index import exact
from index.layout import flat_search
from index.rounding import Rounding
from index.scans.flat import Candidates, FlatScan
from index.scans.scan import TooLarge
from index.search import Search
from tests.index import gpus

components = st.floats(-255, 255, width=32) | st.floats(-(2.0**-10), 2.0**-10, width=32)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_squares_in_float16_stay_under_the_ceiling(data: st.DataObject) -> None:
    d = data.draw(st.integers(1, 9))
    x = data.draw(arrays.arrays(np.float32, d, elements=components))
    moved = data.draw(arrays.arrays(np.float32, (5, d), elements=st.sampled_from([0.0, 0.0, 1e-3, 0.1, -30.0])))
    rows = np.clip(x + moved, -255, 255).astype(np.float32)
    length = float(np.linalg.norm(x.astype(np.float64)))
    rounding = Rounding(d, float16=True, squares16=True)
    ceilings = [rounding.ceiling(true, length) for true in exact.distances(rows, x)]
    assert (gpus.reported(x, rows, float16=True) <= ceilings).all()


def large(rng: np.random.Generator, rows: int, largest: float) -> NDArray[np.float32]:
    """Return (rows, 64) numbers: a tenth of the components are 200 to `largest`, and many rows are close."""
    features = np.maximum(rng.standard_normal((rows, 64), dtype=np.float32), 0)
    there = rng.random((1, 64)) < 0.1
    return np.where(there, rng.uniform(200, largest, (1, 64)) + features / 10, features).clip(0, largest).astype("f4")


def assert_exact(index: Search, features: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    found = index.search(queries, 6)
    expected_distances, expected_ids = exact.nearest(features, np.arange(len(features)), queries, 6)
    np.testing.assert_array_equal(found.ids, expected_ids)
    np.testing.assert_array_equal(found.distances, expected_distances)


def check_large_components() -> None:
    """Rows up to the limit are searched, queries beyond it are answered too, rows beyond it are refused."""
    rng = np.random.default_rng(20)
    features, beyond = large(rng, 3000, 255), large(rng, 5, 300)
    index = flat_search(features, np.arange(3000), gpus=gpus.numbers("cuda"), float16=True)
    assert_exact(index, features, np.concatenate([features[:5] + np.float32(0.01), beyond]).clip(0, 300))
    for wrong in (np.float32(256), np.float32(-256)):
        features[7, 3] = wrong
        with pytest.raises(TooLarge, match="shorter than 32768, with no component beyond 255"):
            flat_search(features, np.arange(3000), gpus=gpus.numbers("cuda"), float16=True)


def test_large_components_are_exact_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.install(monkeypatch, 2)
    check_large_components()


@pytest.mark.gpu
def test_large_components_are_exact_or_refused_on_a_gpu() -> None:
    check_large_components()


@pytest.mark.parametrize("distance", [np.inf, np.nan, -np.inf])
@pytest.mark.parametrize("row", [-1, 3])
def test_a_scan_that_breaks_down_is_left_to_the_definition(
    distance: float, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens to one query of two: an id of -1 is no row, and a distance that is not finite proves nothing."""
    features = np.random.default_rng(21).standard_normal((200, 8), dtype=np.float32)
    index = flat_search(features, np.arange(200))
    scan, calls = FlatScan.candidates, []

    def broken(self: FlatScan, queries: NDArray[np.float32], k: int) -> Candidates:
        calls.append(len(queries))
        found = scan(self, queries, k)
        found.rows[0, 5], found.squared[0, 5] = row, distance
        return found

    monkeypatch.setattr(FlatScan, "candidates", broken)
    assert_exact(index, features, features[:2] + np.float32(0.1))
    assert calls == [2]  # asking for more candidates would not help


def test_an_id_of_minus_one_is_never_read_as_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(22).standard_normal((200, 8), dtype=np.float32)
    index = flat_search(features, np.arange(200))
    scan = FlatScan.candidates

    def nothing(self: FlatScan, queries: NDArray[np.float32], k: int) -> Candidates:
        found = scan(self, queries, k)
        found.rows[:, 0] = -1
        return found

    monkeypatch.setattr(FlatScan, "candidates", nothing)
    assert_exact(index, features, features[:2] + np.float32(0.1))
