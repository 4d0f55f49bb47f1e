"""What a reduced scan leaves out is farther than it says, whatever FAISS's Panorama rounds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from index import exact
from index.layout import Layout, lengths_of, open_search
from index.scans import reduced
from index.scans.graph import Graph
from index.scans.panorama import BATCH, LEVEL, Panorama
from index.scans.reduced import ReducedScan
from index.scans.scan import TooLarge, Vectors
from tests.index.laid import laid, searching

values = st.sampled_from([0.0, 1.0, -1.0, 0.1, 3e-20, 1e-38, 1e15, 1e17]) | st.floats(-1e4, 1e4, width=32)


@contextmanager
def scan_of(features: NDArray[np.float32]) -> Iterator[ReducedScan]:
    with searching("panorama", features, np.arange(len(features))) as index:
        assert index._reduced is not None
        yield index._reduced


def assert_nothing_near_is_left_out(features: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    """Ask for the rows within each row's own distance: it must be among them."""
    with scan_of(features) as scan:
        asked = scan.ask(Vectors(queries, lengths_of(queries)), 1)
        for row, query in enumerate(queries):
            for other, distance in enumerate(exact.distances(features, query)):
                within = asked.within(row, float(distance))
                assert within is not None
                assert other in within


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_row_is_within_its_own_distance_for_any_numbers(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    features = data.draw(arrays.arrays(np.float32, (n, d), elements=values))
    queries = data.draw(arrays.arrays(np.float32, (2, d), elements=values))
    assert_nothing_near_is_left_out(features, np.concatenate([queries, features[:2] * np.float32(1 + 1e-6)]))


@pytest.mark.parametrize("scale", [1e-3, 1.0])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_a_row_is_within_its_own_distance_far_from_the_origin(scale: float, offset: float) -> None:
    rng = np.random.default_rng(6)
    features = (offset + scale * np.maximum(rng.standard_normal((200, 1024)), 0)).astype(np.float32)
    queries = features[:10] + scale * np.float32(1e-3) * rng.standard_normal((10, 1024), dtype=np.float32)
    assert_nothing_near_is_left_out(features, queries)


def test_the_limit_that_faiss_gets_is_above_the_ceiling() -> None:
    """FAISS leaves out what is not below it, and would round a float64 either way."""
    with scan_of(np.ones((3, 8), np.float32)) as scan:
        limits: list[float] = []

        class Noted:
            def within(self, _: NDArray[np.float32], squared: float, *__: object) -> NDArray[np.int64]:
                limits.append(squared)
                return np.arange(3)

        object.__setattr__(scan.proof[0], "index", Noted())
        asked = scan.ask(Vectors(np.ones((1, 8), np.float32), np.array([8**0.5])), 1)
        for distance in np.random.default_rng(3).random(50).tolist():
            asked.within(0, distance)
            assert limits[-1] > scan.rounding.ceiling(distance, 8**0.5)
            assert limits[-1] == float(np.float32(limits[-1]))


def test_a_graph_of_fewer_rows_than_wanted_gives_those(tmp_path: Path) -> None:
    Graph.write(tmp_path / "graph.faiss", np.eye(3, LEVEL, dtype=np.float32))
    _, rows = Graph(tmp_path / "graph.faiss", 3, LEVEL).nearest(np.zeros(LEVEL, np.float32), 10)
    assert sorted(rows.tolist()) == [0, 1, 2]


def test_far_rows_are_left_out() -> None:
    """Else every row would be measured, and the answers would still be right."""
    features = np.repeat(np.arange(2000, dtype=np.float32)[:, None], 8, axis=1)
    with scan_of(features) as scan:
        asked = scan.ask(Vectors(features[:1], lengths_of(features[:1])), 1)
        within = asked.within(0, 10.0)
    assert within is not None
    assert set(range(4)) <= set(within.tolist()) <= set(range(5))


def test_too_many_rows_within_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduced, "MOST", 99)
    for count, settled in ((99, True), (100, False)):
        with scan_of(np.ones((count, 8), np.float32)) as scan:
            asked = scan.ask(Vectors(np.ones((1, 8), np.float32), np.array([8**0.5])), 1)
            assert (asked.within(0, 0.0) is not None) is settled


def test_shards_are_searched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards a segment, in two segments: positions count through all of them."""
    monkeypatch.setattr(reduced, "SHARD", 100)
    features = np.random.default_rng(1).standard_normal((600, 16), dtype=np.float32)
    for kind in ("panorama", "hnsw"):
        with searching(kind, features, np.arange(600), cuts=[300]) as index:
            assert index._reduced is not None
            assert [shard.first for shard in index._reduced.proof] == [0, 100, 200, 300, 400, 500]
            assert index.search(features, 1).ids[:, 0].tolist() == list(range(600))
            assert index.search(features[77:78], 1).ids.tolist() == [[77]]


def test_files_of_other_rows_are_refused(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).standard_normal((700, LEVEL), dtype=np.float32)
    panorama, graph = tmp_path / "panorama.faiss", tmp_path / "graph.faiss"
    Panorama.write(panorama, rows)
    Graph.write(graph, rows)
    for count, width in ((BATCH + 1, LEVEL), (700, 2 * LEVEL)):
        with pytest.raises(ValueError, match=re.escape(f"1024 rows of {LEVEL} numbers, not ")):
            Panorama(panorama, count, width)
    with pytest.raises(ValueError, match=f"700 rows of {LEVEL} numbers, not 699 of {LEVEL}"):
        Graph(graph, 699, LEVEL)


def test_features_whose_squares_overflow_are_refused(tmp_path: Path) -> None:
    layout = Layout("panorama", 8, 4)
    features = np.zeros((3, 8), np.float32)
    features[1, 0] = 1.1e18
    generation = laid(tmp_path, [(features, np.arange(3))], layout, [])
    with pytest.raises(TooLarge, match=r"shorter than 1e\+18"):
        open_search(generation)
