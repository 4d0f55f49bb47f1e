"""FlatIndex gives the ids and distances of exact.nearest, bit for bit, whatever FAISS rounds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index import exact
from index.rounding import Rounding
from index.scan import Candidates, Scan, TooLarge
from index.search import FlatIndex
from tests.index.gpus import numbers

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PRECISIONS = [pytest.param(False, id="float32"), pytest.param(True, id="float16")]


def activations(rng: np.random.Generator, rows: int, d: int = 4096) -> NDArray[np.float32]:
    """Return (rows, d) numbers like fc7 after ReLU: about half of them are zero."""
    return np.maximum(rng.standard_normal((rows, d), dtype=np.float32), 0)


def assert_exact(features: NDArray[np.float32], queries: NDArray[np.float32], k: int, found: FlatIndex) -> None:
    ids = found._ids
    distances, near = found.search(queries, k)
    expected_distances, expected_near = exact.nearest(features, ids, queries, k)
    np.testing.assert_array_equal(near, expected_near)
    np.testing.assert_array_equal(distances, expected_distances)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("float16", PRECISIONS)
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_equals_the_definition(device: str, float16: bool, queries: int) -> None:
    rng = np.random.default_rng(3)
    features = activations(rng, 5000, 256)  # more than one core's share
    ids = rng.permutation(20_000)[:5000]
    index = FlatIndex(features, ids, gpus=numbers(device), float16=float16)
    assert_exact(features, activations(rng, queries, 256), 6, index)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("float16", PRECISIONS)
def test_an_indexed_row_finds_itself_and_its_copies_first(device: str, float16: bool) -> None:
    features = activations(np.random.default_rng(4), 300)
    features[[17, 250]] = features[40]
    distances, ids = FlatIndex(features, np.arange(300), gpus=numbers(device), float16=float16).search(
        features[40:41], 4
    )
    assert ids[0, :3].tolist() == [17, 40, 250]
    assert distances[0, :3].tolist() == [0, 0, 0]
    assert distances[0, 3] > 0


few_values = st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e-30, 300.0])
any_values = st.floats(-(2.0**12), 2.0**12, width=32)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([few_values, any_values]), st.booleans())
def test_equals_the_definition_for_any_numbers(
    data: st.DataObject, values: st.SearchStrategy[float], float16: bool
) -> None:
    n, q, d = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    features = data.draw(arrays.arrays(np.float32, (n, d), elements=values))
    queries = data.draw(arrays.arrays(np.float32, (q, d), elements=values))
    ids = np.array(data.draw(st.lists(st.integers(0, 2**62), min_size=n, max_size=n, unique=True)), np.int64)
    assert_exact(features, queries, data.draw(st.integers(1, n + 2)), FlatIndex(features, ids, float16=float16))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("float16", PRECISIONS)
def test_rows_that_float32_cannot_tell_apart(device: str, float16: bool) -> None:
    """Far from the origin and close together: x.x + y.y - 2 x.y loses every digit, so candidates prove nothing."""
    rng = np.random.default_rng(5)
    features = (200 + rng.standard_normal((3000, 64)) * 1e-3).astype(np.float32)
    index = FlatIndex(features, np.arange(3000), gpus=numbers(device), float16=float16)
    assert_exact(features, features[:4] + np.float32(1e-3), 6, index)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_no_rounding_within_the_bound_changes_the_answer(seed: int, float16: bool) -> None:
    """A scan whose errors are as large as Rounding allows, in the worst direction."""
    rng = np.random.default_rng(seed)
    features = (rng.random() * 3 + rng.standard_normal((400, 40)) * rng.choice([1e-3, 1e-1])).astype(np.float32)
    index = FlatIndex(features, np.arange(400), float16=float16)

    class Worst(Scan):
        def __init__(self) -> None:
            self._longest = self._largest = np.inf
            self.rounding = index._scan.rounding

        def candidates(self, queries: NDArray[np.float32], k: int) -> Candidates:
            squared = np.stack([worst_case(features, query, self.rounding, rng) for query in queries])
            order = np.argsort(squared, axis=1)
            left_out = np.take_along_axis(squared, order[:, k - 1 : k], 1)[:, 0] if k < 400 else [np.inf] * len(queries)
            rows = order[:, :k]
            return Candidates(np.take_along_axis(squared, rows, 1), rows, np.asarray(left_out, np.float32))

    index._scan = Worst()
    assert_exact(features, features[:3] + np.float32(0.01), 6, index)


def worst_case(
    features: NDArray[np.float32], query: NDArray[np.float32], rounding: Rounding, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (n,) squared distances: some at their ceiling, the others as small as the bound allows."""
    true = exact.distances(features, query)
    length = float(np.linalg.norm(query.astype(np.float64)))
    high = np.array([rounding.ceiling(t, length) for t in true])
    low = np.maximum(0, true**2 - (high - true**2))
    return np.where(rng.random(len(true)) < 0.5, low, high * (1 - 1e-6)).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("float16", PRECISIONS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_what_faiss_reports_stays_under_the_ceiling(device: str, float16: bool, scale: float, offset: float) -> None:
    rng = np.random.default_rng(6)
    features = (offset + scale * activations(rng, 200)).astype(np.float32)
    near = features[:20] + scale * np.float32(1e-3) * rng.standard_normal((20, 4096), dtype=np.float32)
    queries = np.concatenate([near, (offset + scale * activations(rng, 20)).astype(np.float32)])
    scan = Scan(features, gpus=numbers(device), float16=float16)
    for batch in (queries, *queries[:3, None]):  # FAISS takes another way for single queries
        found = scan.candidates(batch, 200)
        for query, squared, rows in zip(batch, found.squared, found.rows, strict=True):
            length = float(np.linalg.norm(query.astype(np.float64)))
            true = exact.distances(features[rows], query)
            assert all(s <= scan.rounding.ceiling(t, length) for s, t in zip(squared, true, strict=True))


def test_the_certificate_holds_at_once_on_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every search would scan the collection twice."""
    rng = np.random.default_rng(7)
    features, queries = activations(rng, 5000), activations(rng, 16)
    asked: list[int] = []
    scan = Scan.candidates

    def counted(self: Scan, queries: NDArray[np.float32], k: int) -> Candidates:
        asked.append(len(queries))
        return scan(self, queries, k)

    monkeypatch.setattr(Scan, "candidates", counted)
    for float16 in (False, True):
        FlatIndex(features, np.arange(5000), float16=float16).search(queries, 6)
    assert asked == [16, 16]


def test_any_thread_may_search() -> None:
    rng = np.random.default_rng(8)
    features, queries = activations(rng, 5000, 128), activations(rng, 24, 128)
    index = FlatIndex(features, np.arange(5000))
    _, expected = exact.nearest(features, np.arange(5000), queries, 5)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: index.search(queries[row : row + 1], 5)[1][0], range(24)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [5, 6, 5000])
def test_more_neighbours_than_rows_gives_all_rows(k: int) -> None:
    features = activations(np.random.default_rng(9), 5, 8)
    distances, ids = FlatIndex(features, np.arange(5)).search(features[:2], k)
    assert distances.shape == ids.shape == (2, 5)


def test_no_rows_and_no_queries_give_empty_answers() -> None:
    features = activations(np.random.default_rng(10), 5, 8)
    assert FlatIndex(features[:0], np.arange(0)).search(features, 3)[1].shape == (5, 0)
    assert FlatIndex(features, np.arange(5)).search(features[:0], 3)[1].shape == (0, 3)


def test_wrong_questions_are_refused() -> None:
    features = activations(np.random.default_rng(11), 5, 8)
    index = FlatIndex(features, np.arange(5))
    for queries, k in [(features, 0), (features[0], 3), (features[:, :4], 3), (features.astype(np.float64), 3)]:
        with pytest.raises(ValueError, match="k must|queries must"):
            index.search(queries, k)
    with pytest.raises(ValueError, match="finite"):
        index.search(np.full((1, 8), np.nan, np.float32), 3)


def test_wrong_collections_are_refused() -> None:
    features = activations(np.random.default_rng(12), 5, 8)
    with pytest.raises(ValueError, match="as many ids"):
        FlatIndex(features, np.arange(4))
    with pytest.raises(ValueError, match="C order"):
        FlatIndex(np.asfortranarray(features), np.arange(5))
    for wrong in (np.inf, np.nan, 1e18):
        with pytest.raises(TooLarge, match=r"float32 must be finite and shorter than 1e\+18$"):
            FlatIndex(np.full((1, 8), wrong, np.float32), np.arange(1))
    with pytest.raises(ValueError, match="GPUs 0, 1000 asked for"):
        FlatIndex(features, np.arange(5), gpus=(0, 1000))


def test_numbers_too_large_for_float32_arithmetic_are_left_to_the_definition() -> None:
    features = activations(np.random.default_rng(13), 50, 8)
    for float16 in (False, True):
        assert_exact(features, features[:2] * np.float32(1e30), 6, FlatIndex(features, np.arange(50), float16=float16))
