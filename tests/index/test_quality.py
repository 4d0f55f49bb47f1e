"""What the manifest says of a generation's answers is what was answered; intervals are as wide as the queries vary."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index import exact, quality

N, D = 60, 8
ROWS = np.random.default_rng(0).standard_normal((N, D), dtype=np.float32)
IDS = np.arange(100, 100 + N)
QUERIES = np.random.default_rng(1).standard_normal((30, D), dtype=np.float32)


@dataclass(frozen=True)
class Answers:
    ids: NDArray[np.int64]


@dataclass
class Search:
    """The definition; of each measured answer `missed` are wrong. `asked` counts queries by brute force."""

    missed: int = 0
    asked: int = 0
    alone: list[bool] = field(default_factory=list)  # the mode of each search for one query

    def search(self, queries: NDArray[np.float32], k: int, *, measured: bool = False) -> Answers:
        if len(queries) == 1:
            self.alone.append(measured)
        ids = exact.nearest(ROWS, IDS, queries, k)[1]
        if measured and self.missed:
            ids[:, -self.missed :] = exact.nearest(ROWS, IDS, queries, 2 * k)[1][:, -self.missed :]
        return Answers(ids)

    def brute(self, query: NDArray[np.float32], k: int) -> Answers:
        self.asked += 1
        return Answers(exact.nearest(ROWS, IDS, query[None], k)[1])


class Catalogue:
    def labels(self) -> NDArray[np.int64]:
        return np.where(ROWS[:, 0] > 0, 1, 0).astype(np.int64)


@dataclass(frozen=True)
class Generation:
    path: Path
    ids: NDArray[np.int64] = field(default_factory=lambda: IDS)
    catalogue: Catalogue = field(default_factory=Catalogue)


def test_recall_of_both_modes_is_counted_against_the_nearest(tmp_path: Path) -> None:
    search = Search(missed=2)
    found = quality.measure(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert (found["k"], found["queries"], found["checked"]) == (6, 30, 20)
    assert search.asked == 20
    assert found["certified"]["recall"]["value"] == 1
    assert found["measured"]["recall"]["value"] == pytest.approx(4 / 6)
    assert set(found["certified"]["ms"]) == {"median", "fastest", "slowest"}
    assert search.alone == [False] * 31 + [True] * 31  # one of each is not counted


def test_a_certified_answer_that_is_wrong_would_show(tmp_path: Path) -> None:
    class Wrong(Search):
        def search(self, queries: NDArray[np.float32], k: int, *, measured: bool = False) -> Answers:
            del measured
            return super().search(queries, k, measured=True)

    found = quality.measure(Wrong(missed=1), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert found["certified"]["recall"]["value"] == pytest.approx(5 / 6)


def test_brute_force_answers_fewer_queries_of_a_large_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "NUMBERS", 3 * N * D)
    search = Search()
    assert quality.measure(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["checked"] == 3
    monkeypatch.setattr(quality, "NUMBERS", 1)
    assert quality.measure(search, Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["checked"] == 1


def test_more_queries_than_a_measurement_takes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MOST", 4)
    assert quality.measure(Search(), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))["queries"] == 4


def test_agreement_is_of_the_queries_with_a_label(tmp_path: Path) -> None:
    labels = np.full(30, -1)
    assert quality.measure(Search(), Generation(tmp_path), QUERIES, labels)["agreement"] is None
    labels[3] = 1
    near = exact.nearest(ROWS, IDS, QUERIES[3:4], 6)[1][0] - 100
    agreement = quality.measure(Search(), Generation(tmp_path), QUERIES, labels)["agreement"]
    assert agreement["value"] == pytest.approx((ROWS[near, 0] > 0).mean())


def test_agreement_needs_a_label_among_the_neighbours_too() -> None:
    assert quality.agreement(np.full((2, 6), -1), np.array([0, 1])) is None


def test_bytes_are_those_of_all_files_of_a_name(tmp_path: Path) -> None:
    for segment, size in (("0001", 10), ("0002", 5)):
        (tmp_path / segment).mkdir()
        (tmp_path / segment / "features.npy").write_bytes(b"0" * size)
    (tmp_path / "catalogue.sqlite").write_bytes(b"0")
    found = quality.measure(Search(), Generation(tmp_path), QUERIES, np.zeros(30, np.int64))
    assert found["bytes"] == {"catalogue.sqlite": 1, "features.npy": 15}


def test_nothing_is_measured_without_queries_or_rows(tmp_path: Path) -> None:
    assert quality.measure(Search(), Generation(tmp_path), QUERIES[:0], np.zeros(0, np.int64)) == {}
    empty = Generation(tmp_path, ids=IDS[:0])
    assert quality.measure(Search(), empty, QUERIES, np.zeros(30, np.int64)) == {}


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
