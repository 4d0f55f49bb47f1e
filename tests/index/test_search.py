"""Search gives the ids and distances of exact.nearest, bit for bit, whatever FAISS rounds and the layout is."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index import exact
from index.layout import flat_search
from index.rounding import Reduced, Rounding
from index.scans.flat import Candidates, FlatScan
from index.scans.scan import TooLarge
from index.search import Search
from tests.index.gpus import numbers
from tests.index.laid import FLAT, FLOAT16, KINDS, searching

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PRECISIONS = [pytest.param(False, id="float32"), pytest.param(True, id="float16")]


def activations(rng: np.random.Generator, rows: int, d: int = 4096) -> NDArray[np.float32]:
    """Return (rows, d) numbers like fc7 after ReLU: about half of them are zero."""
    return np.maximum(rng.standard_normal((rows, d), dtype=np.float32), 0)


def clusters(rng: np.random.Generator, rows: int, d: int = 256) -> NDArray[np.float32]:
    """Return (rows, d) numbers of which a few directions hold the most, as in fc7's features."""
    strength = 10.0 / (1 + np.arange(d))
    turn, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray((rng.standard_normal((rows, d)) * strength) @ turn, np.float32)


def assert_exact(
    features: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int, index: Search
) -> set[str]:
    """Compare with the definition; return how the answers were found."""
    found = index.search(queries, k)
    expected_distances, expected_ids = exact.nearest(features, ids, queries, k)
    np.testing.assert_array_equal(found.ids, expected_ids)
    np.testing.assert_array_equal(found.distances, expected_distances)
    assert found.settled.all()
    return set(found.exactness)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_equals_the_definition(kind: str, queries: int) -> None:
    rng = np.random.default_rng(3)
    features = clusters(rng, 5000 + queries)  # more than one core's share
    features, asked = features[:5000], features[5000:]
    ids = np.sort(rng.permutation(20_000)[:5000])
    with searching(kind, features, ids) as index:
        assert assert_exact(features, ids, asked, 6, index) == {"certified"}
        assert index.quick(asked, 6).settled.all()


@pytest.mark.gpu
@pytest.mark.parametrize("float16", PRECISIONS)
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_equals_the_definition_on_gpus(float16: bool, queries: int) -> None:
    rng = np.random.default_rng(3)
    features, ids = activations(rng, 5000, 256), np.arange(5000)
    index = flat_search(features, ids, gpus=numbers("cuda"), float16=float16)
    assert_exact(features, ids, activations(rng, queries, 256), 6, index)


@pytest.mark.parametrize("kind", KINDS)
def test_an_indexed_row_finds_itself_and_its_copies_first(kind: str) -> None:
    features = activations(np.random.default_rng(4), 300)
    features[[17, 250]] = features[40]
    with searching(kind, features, np.arange(300)) as index:
        found = index.search(features[40:41], 4)
    assert found.ids[0, :3].tolist() == [17, 40, 250]
    assert found.distances[0, :3].tolist() == [0, 0, 0]
    assert found.distances[0, 3] > 0


few_values = st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e-30, 300.0])
any_values = st.floats(-(2.0**12), 2.0**12, width=32)
huge_values = st.sampled_from([0.0, 1e-38, 1e17, -1e17, 9.9e16, 1.0])


@settings(max_examples=250, deadline=None)
@given(st.data(), st.sampled_from([few_values, any_values, huge_values]), st.sampled_from(list(KINDS)))
def test_equals_the_definition_for_any_numbers_segments_and_removals(
    data: st.DataObject, values: st.SearchStrategy[float], kind: str
) -> None:
    n, q, d = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    if kind == FLOAT16 and values is huge_values:
        kind = FLAT
    features = data.draw(arrays.arrays(np.float32, (n, d), elements=values))
    queries = data.draw(arrays.arrays(np.float32, (q, d), elements=values))
    ids = np.array(sorted(data.draw(st.sets(st.integers(0, 2**62), min_size=n, max_size=n))), np.int64)
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=3)))
    removed = data.draw(st.sets(st.sampled_from(ids.tolist()), max_size=n - 1))
    alive = ~np.isin(ids, list(removed))
    with searching(kind, features, ids, cuts, sorted(removed)) as index:
        assert_exact(features[alive], ids[alive], queries, data.draw(st.integers(1, n + 2)), index)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_float32_cannot_tell_apart(kind: str) -> None:
    """Far from the origin and close together: x.x + y.y - 2 x.y loses every digit, so candidates prove nothing."""
    rng = np.random.default_rng(5)
    features = (200 + rng.standard_normal((5000, 64)) * 1e-3).astype(np.float32)
    with searching(kind, features, np.arange(5000)) as index:
        how = assert_exact(features, np.arange(5000), features[:4] + np.float32(1e-3), 6, index)
    assert how == {"exact"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 6])
def test_rows_at_one_distance_that_float32_puts_in_another_order(kind: str, k: int) -> None:
    """The same components in any order: each sum of squares is rounded in its own way."""
    rng = np.random.default_rng(19)
    features = rng.permuted(np.tile(rng.standard_normal(256, dtype=np.float32), (300, 1)), axis=1)
    with searching(kind, features, np.arange(300)) as index:
        assert_exact(features, np.arange(300), np.zeros((1, 256), np.float32), k, index)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_no_rounding_within_the_bound_changes_the_answer_of_a_flat_scan(seed: int, float16: bool) -> None:
    """A scan whose errors are as large as Rounding allows, in the worst direction."""
    rng = np.random.default_rng(seed)
    features = (rng.random() * 3 + rng.standard_normal((400, 40)) * rng.choice([1e-3, 1e-1])).astype(np.float32)
    index = flat_search(features, np.arange(400), float16=float16)
    scan = index._flat

    def candidates(queries: NDArray[np.float32], k: int) -> Candidates:
        squared = np.stack([worst_case(features, query, scan.rounding, rng) for query in queries])
        order = np.argsort(squared, axis=1)
        left_out = np.take_along_axis(squared, order[:, k - 1 : k], 1)[:, 0] if k < 400 else [np.inf] * len(queries)
        rows = order[:, :k]
        return Candidates(np.take_along_axis(squared, rows, 1), rows, np.asarray(left_out, np.float32))

    scan.candidates = candidates  # type: ignore[method-assign]
    assert_exact(features, np.arange(400), features[:3] + np.float32(0.01), 6, index)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["panorama", "hnsw"]))
def test_no_rounding_within_the_bound_changes_the_answer_of_a_reduced_scan(seed: int, kind: str) -> None:
    """A Panorama that rounds as badly as Reduced allows, and proposals that are any rows at all."""
    rng = np.random.default_rng(seed)
    features = (rng.random() * 3 + rng.standard_normal((400, 40)) * rng.choice([1e-3, 1e-1])).astype(np.float32)
    queries = features[:3] + np.float32(0.01)
    with searching(kind, features, np.arange(400)) as index:
        assert index._reduced
        scan = index._reduced
        asked = iter(queries)

        class Worst:
            count = 400

            def within(self, _: NDArray[np.float32], squared: float, only: None) -> NDArray[np.int64]:
                assert only is None
                return np.flatnonzero(worst_case(features, next(asked), scan.rounding, rng) < squared)

            def nearest(self, _: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
                return np.zeros(k, np.float32), rng.choice(400, k, replace=False)

        for shard in (*scan.proof, *scan.proposals):
            object.__setattr__(shard, "index", Worst())
        for query in queries:  # one at a time, so that `asked` gives them in order
            assert assert_exact(features, np.arange(400), query[None], 6, index) == {"certified"}


def worst_case(
    features: NDArray[np.float32], query: NDArray[np.float32], rounding: Rounding | Reduced, rng: np.random.Generator
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
    scan = flat_search(features, np.arange(200), gpus=numbers(device), float16=float16)._flat
    for batch in (queries, *queries[:3, None]):  # FAISS takes another way for single queries
        found = scan.candidates(batch, 200)
        for query, squared, rows in zip(batch, found.squared, found.rows, strict=True):
            length = float(np.linalg.norm(query.astype(np.float64)))
            true = exact.distances(features[rows], query)
            assert all(s <= scan.rounding.ceiling(t, length) for s, t in zip(squared, true, strict=True))


@pytest.mark.parametrize("kind", [FLAT, FLOAT16])
def test_the_certificate_holds_at_once_on_activations(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every search would scan the collection twice."""
    rng = np.random.default_rng(7)
    features, queries = activations(rng, 5000), activations(rng, 16)
    asked: list[int] = []
    scan = FlatScan.candidates

    def counted(self: FlatScan, queries: NDArray[np.float32], k: int) -> Candidates:
        asked.append(len(queries))
        return scan(self, queries, k)

    monkeypatch.setattr(FlatScan, "candidates", counted)
    with searching(kind, features, np.arange(5000)) as index:
        index.search(queries, 6)
    assert asked == [16]


@pytest.mark.parametrize("kind", KINDS)
def test_any_thread_may_search(kind: str) -> None:
    rng = np.random.default_rng(8)
    features, queries = activations(rng, 5000, 128), activations(rng, 24, 128)
    _, expected = exact.nearest(features, np.arange(5000), queries, 5)
    with searching(kind, features, np.arange(5000)) as index, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: index.search(queries[row : row + 1], 5).ids[0], range(24)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["panorama", "hnsw"])
def test_measured_answers_are_nearly_right_and_say_so(kind: str) -> None:
    features = clusters(np.random.default_rng(14), 3020)
    features, queries = features[:3000], features[3000:]
    with searching(kind, features, np.arange(3000), cuts=[1000], removed=[5, 2000]) as index:
        measured, certified = index.search(queries, 6, measured=True), index.search(queries, 6)
    assert (set(measured.exactness), set(certified.exactness)) == ({"measured"}, {"certified"})
    assert not np.isin(measured.ids, [5, 2000]).any()
    right = np.mean([np.isin(a, b).mean() for a, b in zip(measured.ids, certified.ids, strict=True)])
    assert right > 0.95
    for query, distances, ids in zip(queries, measured.distances, measured.ids, strict=True):
        np.testing.assert_array_equal(distances, exact.distances(features[ids], query))  # of what was found, exact


def test_a_flat_scan_proves_its_answers_also_where_they_need_not_be() -> None:
    features = activations(np.random.default_rng(15), 50, 8)
    assert flat_search(features, np.arange(50)).search(features[:2], 3, measured=True).exactness == ("certified",) * 2


@pytest.mark.parametrize("kind", ["panorama", FLAT])
def test_a_hard_query_is_left_and_holds_up_no_other(kind: str) -> None:
    """Five thousand rows at one distance: too many to measure one by one."""
    features = np.tile(activations(np.random.default_rng(16), 1, 64), (5000, 1))
    features[4900:] += np.arange(100, dtype=np.float32)[:, None]
    queries = np.stack([features[0], features[4999]])
    with searching(kind, features, np.arange(5000)) as index:
        found = index.quick(queries, 6)
        assert found.settled.tolist() == [False, True]
        assert index.search(queries, 6).exactness == ("exact", "certified")
        assert index.slow(queries[:1], 6).ids[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_slow_query_reads_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """800 rows at one distance: the flat scan proves them when it is asked for enough, and each scan takes seconds."""
    features = np.tile(activations(np.random.default_rng(18), 1, 64), (5000, 1))
    features[800:] += np.arange(4200, dtype=np.float32)[:, None]
    asked: list[int] = []
    scan = FlatScan.candidates

    def counted(self: FlatScan, queries: NDArray[np.float32], k: int) -> Candidates:
        asked.append(k)
        return scan(self, queries, k)

    monkeypatch.setattr(FlatScan, "candidates", counted)
    with searching("panorama", features, np.arange(5000)) as index:
        answers = index.slow(features[:1], 6)
    assert (answers.exactness, answers.ids[0].tolist()) == (("certified",), [0, 1, 2, 3, 4, 5])
    assert len(asked) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_when_all_of_the_nearest_were_removed_the_next_are_found(kind: str) -> None:
    features = activations(np.random.default_rng(17), 2000, 32)
    order = np.argsort(exact.distances(features, features[0]), kind="stable")
    with searching(kind, features, np.arange(2000), removed=order[:700].tolist()) as index:
        assert index.search(features[:1], 3).ids[0].tolist() == order[700:703].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [5, 6, 5000])
def test_more_neighbours_than_rows_gives_all_rows(kind: str, k: int) -> None:
    features = activations(np.random.default_rng(9), 5, 8)
    with searching(kind, features, np.arange(5)) as index:
        found = index.search(features[:2], k)
    assert found.distances.shape == found.ids.shape == (2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_queries_give_empty_answers(kind: str) -> None:
    features = activations(np.random.default_rng(10), 5, 8)
    with searching(kind, features, np.arange(5)) as index:
        assert index.search(features[:0], 3).ids.shape == (0, 3)


def test_no_rows_give_empty_answers() -> None:
    features = activations(np.random.default_rng(10), 5, 8)
    assert flat_search(features[:0], np.arange(0)).search(features, 3).ids.shape == (5, 0)


def test_wrong_questions_are_refused() -> None:
    features = activations(np.random.default_rng(11), 5, 8)
    index = flat_search(features, np.arange(5))
    for queries, k in [(features, 0), (features[0], 3), (features[:, :4], 3), (features.astype(np.float64), 3)]:
        with pytest.raises(ValueError, match="k must|queries must"):
            index.search(queries, k)
    with pytest.raises(ValueError, match="finite"):
        index.search(np.full((1, 8), np.nan, np.float32), 3)


def test_wrong_collections_are_refused() -> None:
    features = activations(np.random.default_rng(12), 5, 8)
    with pytest.raises(ValueError, match="as many ids"):
        flat_search(features, np.arange(4))
    with pytest.raises(ValueError, match="C order"):
        flat_search(np.asfortranarray(features), np.arange(5))
    for wrong in (np.inf, np.nan, 1e18):
        with pytest.raises(TooLarge, match=r"float32 must be finite and shorter than 1e\+18$"):
            flat_search(np.full((1, 8), wrong, np.float32), np.arange(1))
    with pytest.raises(ValueError, match="GPUs 0, 1000 asked for"):
        flat_search(features, np.arange(5), gpus=(0, 1000))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_too_large_for_float32_arithmetic_are_left_to_the_definition(kind: str) -> None:
    features = activations(np.random.default_rng(13), 50, 8)
    with searching(kind, features, np.arange(50)) as index:
        assert assert_exact(features, np.arange(50), features[:2] * np.float32(1e30), 6, index) == {"exact"}
