"""A search among some images finds what brute force finds among them, whatever the layout and the others are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index import exact
from index.search import Answers, Search
from tests.index.laid import FLAT, FLOAT16, KINDS, searching
from tests.index.test_search import activations, any_values, clusters, few_values, huge_values

REDUCED = ["panorama", "hnsw"]


def assert_exact_among(
    features: NDArray[np.float32],
    ids: NDArray[np.int64],
    among: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
    index: Search,
) -> Answers:
    found = index.search(queries, k, among=among)
    chosen = np.isin(ids, among)
    distances, expected = exact.nearest(features[chosen], ids[chosen], queries, k)
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_array_equal(found.distances, distances)
    assert found.settled.all()
    return found


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([few_values, any_values, huge_values]), st.sampled_from(list(KINDS)), st.booleans())
def test_equals_the_definition_among_any_images_of_any_segments(
    data: st.DataObject, values: st.SearchStrategy[float], kind: str, compared: bool
) -> None:
    n, q, d = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    if kind == FLOAT16 and values is huge_values:
        kind = FLAT
    features = data.draw(arrays.arrays(np.float32, (n, d), elements=values))
    queries = data.draw(arrays.arrays(np.float32, (q, d), elements=values))
    ids = np.array(sorted(data.draw(st.sets(st.integers(0, 2**62), min_size=n, max_size=n))), np.int64)
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=3)))
    removed = data.draw(st.sets(st.sampled_from(ids.tolist()), max_size=n - 1))
    among = np.array(sorted(data.draw(st.sets(st.sampled_from(ids.tolist())))), np.int64)
    alive = ~np.isin(ids, list(removed))
    with pytest.MonkeyPatch.context() as patch, searching(kind, features, ids, cuts, sorted(removed)) as index:
        if not compared:
            patch.setattr("index.search.FEW", 0)
            patch.setattr("index.search.SOME", 0)
        k = data.draw(st.integers(1, n + 2))
        assert_exact_among(features[alive], ids[alive], among, queries, k, index)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("far", [False, True])
def test_a_label_near_the_query_or_far_from_it(kind: str, far: bool) -> None:
    """Ten labels, each a cluster of 500: none of the nearest of all rows is of a far label."""
    rng = np.random.default_rng(21)
    centres, labels = clusters(rng, 10) * 3, np.arange(5000) % 10
    features = np.asarray(centres[labels] + clusters(rng, 5000), np.float32)
    queries, removed = features[labels == 3][:4] + np.float32(0.01), [3, 13, 4, 14]
    ids, among = np.arange(5000), np.flatnonzero(labels == (4 if far else 3))
    alive = ~np.isin(ids, removed)
    with pytest.MonkeyPatch.context() as patch, searching(kind, features, ids, [1000], removed) as index:
        patch.setattr("index.search.FEW", 100)
        found = assert_exact_among(features[alive], ids[alive], among, queries, 6, index)
        assert index.quick(queries, 6, among=among).settled.all()
        assert set(found.exactness) == {"certified" if kind in REDUCED else "exact"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("images", "k"), [(0, 3), (1, 3), (4, 4), (4, 100)])
def test_as_many_come_as_there_are(kind: str, images: int, k: int) -> None:
    features, ids = activations(np.random.default_rng(22), 40, 8), np.arange(40) * 3
    with searching(kind, features, ids) as index:
        found = assert_exact_among(features, ids, ids[5 : 5 + images], features[:2], k, index)
    assert found.ids.shape == (2, min(images, k))


@pytest.mark.parametrize("kind", REDUCED)
def test_a_few_images_are_compared_and_more_are_looked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, ids = clusters(np.random.default_rng(23), 200), np.arange(200)
    monkeypatch.setattr("index.search.FEW", 50)
    with searching(kind, features, ids) as index:
        assert index.search(features[:1], 6, among=ids[:50]).exactness == ("exact",)
        assert index.search(features[:1], 6, among=ids[:51], measured=True).exactness == ("certified",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hard_query_is_left_to_the_slow_search(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five thousand rows at one distance, but for one of the last."""
    features = np.tile(activations(np.random.default_rng(24), 1, 64), (6000, 1))
    query, features[5400] = features[:1] + 1, features[0] + 0.5
    ids, among = np.arange(6000), np.arange(500, 5500)
    monkeypatch.setattr("index.search.SOME", 4000)
    with searching(kind, features, ids, [1000], [0]) as index:
        assert index.quick(query, 3, among=among).settled.tolist() == [False]
        found = index.slow(query, 3, among=among)
    assert (found.ids[0].tolist(), found.exactness) == ([5400, 500, 501], ("exact",))


def test_ids_that_the_collection_does_not_have_are_not_found() -> None:
    features, ids = activations(np.random.default_rng(25), 9, 8), np.arange(9) * 2
    with searching(FLAT, features, ids, [4], [6, 8]) as index:
        found = index.search(features[:1], 9, among=np.array([-5, 0, 1, 6, 7, 10, 99]))
    assert sorted(found.ids[0].tolist()) == [0, 10]
