"""What the manifest says of a generation's answers is what was answered; intervals are as wide as the queries vary."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from index import Bundle, Layout, exact, quality
from index import Generation as Published
from index.queries import Queries
from tests.index.blocks import Run, build, features_of

N, D = 60, 8
ROWS = np.random.default_rng(0).standard_normal((N, D), dtype=np.float32)
IDS = np.arange(100, 100 + N)
QUERIES = np.random.default_rng(1).standard_normal((30, D), dtype=np.float32)


@dataclass(frozen=True)
class Answers:
    ids: NDArray[np.int64]


@dataclass
class Search:
    """The definition; of each measured answer `missed` are wrong."""

    missed: int = 0
    alone: list[bool] = field(default_factory=list)  # the mode of each search for one query

    def search(self, queries: NDArray[np.float32], k: int, *, measured: bool = False) -> Answers:
        if len(queries) == 1:
            self.alone.append(measured)
        ids = exact.nearest(ROWS, IDS, queries, k)[1]
        if measured and self.missed:
            ids[:, -self.missed :] = exact.nearest(ROWS, IDS, queries, 2 * k)[1][:, -self.missed :]
        return Answers(ids)


class Catalogue:
    def labels(self) -> NDArray[np.int64]:
        return np.where(ROWS[:, 0] > 0, 1, 0).astype(np.int64)


@dataclass(frozen=True)
class Segment:
    features: NDArray[np.float32]
    ids: NDArray[np.int64]


MEASURE: Any = quality.measure  # what is below stands for a generation and its search
NEARER = Segment(QUERIES, np.arange(10, 40))  # of images that were removed; they would be the nearest of all


@dataclass(frozen=True)
class Generation:
    path: Path
    segments: tuple[Segment, ...] = (NEARER, Segment(ROWS[:20], IDS[:20]), Segment(ROWS[20:], IDS[20:]))
    ids: NDArray[np.int64] = field(default_factory=lambda: IDS)
    catalogue: Catalogue = field(default_factory=Catalogue)


def test_recall_of_both_modes_is_counted_against_the_nearest(tmp_path: Path) -> None:
    search = Search(missed=2)
    found = MEASURE(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert (found["k"], found["queries"], found["checked"]) == (6, 30, 20)
    assert found["certified"]["recall"]["value"] == 1
    assert found["measured"]["recall"]["value"] == pytest.approx(4 / 6)
    assert set(found["certified"]["ms"]) == {"median", "fastest", "slowest"}
    assert search.alone == [False] * 31 + [True] * 31  # one of each is not counted


def test_a_certified_answer_that_is_wrong_would_show(tmp_path: Path) -> None:
    class Wrong(Search):
        def search(self, queries: NDArray[np.float32], k: int, *, measured: bool = False) -> Answers:
            del measured
            return super().search(queries, k, measured=True)

    found = MEASURE(Wrong(missed=1), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert found["certified"]["recall"]["value"] == pytest.approx(5 / 6)


def test_brute_force_answers_fewer_queries_of_a_large_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "NUMBERS", 3 * N * D)
    search = Search()
    assert MEASURE(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["checked"] == 3
    monkeypatch.setattr(quality, "NUMBERS", 1)
    assert MEASURE(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["checked"] == 1


def test_more_queries_than_a_measurement_takes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MOST", 4)
    assert MEASURE(Search(), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["queries"] == 4


def test_agreement_is_of_the_queries_with_a_label(tmp_path: Path) -> None:
    labels = np.full(30, -1)
    assert MEASURE(Search(), Generation(tmp_path), QUERIES, labels)["agreement"] is None
    labels[3] = 1
    near = exact.nearest(ROWS, IDS, QUERIES[3:4], 6)[1][0] - 100
    agreement = MEASURE(Search(), Generation(tmp_path), QUERIES, labels)["agreement"]
    assert agreement["value"] == pytest.approx((ROWS[near, 0] > 0).mean())


def test_agreement_needs_a_label_among_the_neighbours_too() -> None:
    assert quality.agreement(np.full((2, 6), -1), np.array([0, 1])) is None


def test_bytes_are_those_of_all_files_of_a_name(tmp_path: Path) -> None:
    for segment, size in (("0001", 10), ("0002", 5)):
        (tmp_path / segment).mkdir()
        (tmp_path / segment / "features.npy").write_bytes(b"0" * size)
    (tmp_path / "catalogue.sqlite").write_bytes(b"0")
    (tmp_path / "manifest.json").write_text("it is written again afterwards")
    found = MEASURE(Search(), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert found["bytes"] == {"catalogue.sqlite": 1, "features.npy": 15}


def test_nothing_is_measured_without_queries_or_rows(tmp_path: Path) -> None:
    assert MEASURE(Search(), Generation(tmp_path), QUERIES[:0], np.zeros(0, np.int64)) == {}
    empty = Generation(tmp_path, ids=IDS[:0])
    assert MEASURE(Search(), empty, QUERIES, np.zeros(30, np.int64)) == {}


@pytest.mark.parametrize("layout", [Layout(), Layout("panorama", 32, 8)], ids=["flat", "panorama"])
def test_a_generation_measures_again_with_the_queries_that_it_keeps(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "checkpoint").write_bytes(b"weights")
    with closing(build(tmp_path / "bundle", tmp_path / "checkpoint", run=Run(layout=layout))) as first:
        assert quality.measure_again(first) == {}
        names = [f"query {i}" for i in range(8)]
        queries = Queries(np.stack([features_of(name) for name in names]), tuple(names), ("frog", *[None] * 7), None)

        def measure(generation: Published) -> dict[str, Any]:
            queries.write(generation.path)
            return quality.measure_again(generation)

        gone = first.ids[:3].tolist()
    bundle = Bundle(tmp_path / "bundle")
    with closing(bundle.remove(gone, measure)) as second, closing(bundle.current(verify=True)) as published:
        recorded = published.manifest.quality
        assert (recorded["queries"], recorded["checked"], recorded["certified"]["recall"]["value"]) == (8, 8, 1)
        near = exact.nearest(second.all_rows(), second.ids, queries.features[:1], 6)[1]
        labels = [second.catalogue.image(int(image)).label for image in near[0]]
        assert recorded["agreement"]["value"] == pytest.approx(labels.count("frog") / 6)
        assert quality.changed(recorded, quality.measure_again(published)) == []
        assert {"queries.npy", "queries.json", "features.npy"} <= set(recorded["bytes"])
    with closing(bundle.remove([int(second.ids[0])], quality.measure_again)) as third:  # its queries are links
        assert third.manifest.quality["queries"] == 8


def test_an_interval_is_wilsons_and_neighbours_of_one_query_are_not_independent() -> None:
    # 80 of 100, each alone: by hand 0.7112 to 0.8666 (a proportion's variance there is that of the trials)
    alone = quality.share(np.repeat([1.0, 0.0], [80, 20]), 1)
    assert alone == pytest.approx({"value": 0.8, "low": 0.7112, "high": 0.8666}, abs=1e-3)
    # six that are all alike tell as much as one
    assert quality.share(np.repeat([1.0, 0.0], [80, 20]), 6) == pytest.approx(alone)
    # six that differ within each query tell as much as 600: none knows more
    mixed = quality.share(np.repeat([5 / 6, 4 / 6], [80, 20]), 6)
    assert (mixed["value"], mixed["low"], mixed["high"]) == pytest.approx((0.8, 0.7662, 0.8300), abs=1e-3)
    # all right: as many trials as queries
    assert quality.share(np.ones(200), 6) == pytest.approx({"value": 1, "low": 0.9812, "high": 1}, abs=1e-4)
    assert quality.share(np.ones(1), 6)["low"] == pytest.approx(0.2065, abs=1e-3)


def test_a_figure_that_has_changed_is_named() -> None:
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    recorded = {"queries": 5, "measured": {"recall": figure, "ms": {"median": 1.0}}, "agreement": figure}
    again = {"queries": 5, "measured": {"recall": {**figure, "value": 0.94}}, "agreement": {**figure, "value": 0.79}}
    assert quality.changed(recorded, recorded) == []
    assert quality.changed(recorded, again) == ["agreement"]
    assert quality.changed(recorded, {"agreement": None}) == ["measured recall", "agreement"]
