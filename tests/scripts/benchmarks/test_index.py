"""The comparison of indexes: its truth, its figures, and that every form finds what it says it does."""

import json
import mmap
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from index import exact
from scripts.benchmarks import ground_truth, index
from scripts.benchmarks.index import Compared, measure, shown
from scripts.benchmarks.index_forms import NUMPY, Form, Found, Search, in_numpy, peers
from scripts.benchmarks.index_inputs import lay_out
from scripts.benchmarks.index_process import anonymous, mapped
from scripts.benchmarks.settings import Index
from scripts.command import Refused
from tests.scripts.benchmarks.test_retrieval import LABELS, packed
from tests.service.bundles import build

ROOT = Path(__file__).parents[3]
ROWS, WIDTH = 300, 64


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """(count, WIDTH) float32, non-negative, in groups, as features are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((8, WIDTH)) * 3
    found = centres[random.integers(0, 8, count)] + random.standard_normal((count, WIDTH))
    return np.maximum(found, 0).astype(np.float32)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Few rows, and threads in the place of processes, whose start takes seconds."""
    monkeypatch.setattr(index, "own_process", lambda: ThreadPoolExecutor(1))
    np.save(tmp_path / "f.npy", clustered(ROWS, 0))
    np.save(tmp_path / "q.npy", clustered(40, 1))
    files = {"features": tmp_path / "f.npy", "queries": tmp_path / "q.npy", "scratch": tmp_path}
    return Index(**files, batch=16, checked=30, rounds=2)  # type: ignore[arg-type]


def only(monkeypatch: pytest.MonkeyPatch, *forms: Form) -> None:
    """Compare these forms alone."""
    monkeypatch.setattr(index, "peers", lambda *_: list(forms))
    monkeypatch.setattr(index, "ours", lambda *_: [])


def test_every_form_finds_the_nearest(config: Index, capsys: pytest.CaptureFixture[str]) -> None:
    found = {row.form: row for row in measure(config)}
    wanted = [form.name for form in peers(ROWS, WIDTH) if not form.package or find_spec(form.package)]
    assert list(found)[: len(wanted)] == wanted
    assert any(name.startswith("fc7") for name in found)
    for row in found.values():
        assert row.recall["value"] > 0.99, row.form
        assert row.equal >= 29, row.form
        assert (row.rows, row.checked, row.batch) == (ROWS, 30, 16)
        assert 0 < row.low_ms <= row.median_ms <= row.high_ms
    assert "300 rows are few" in capsys.readouterr().err  # the plan
    assert not list(config.scratch.glob("benchmark-*"))


def test_all_rows_are_read_where_they_are_and_some_are_copied(config: Index, tmp_path: Path) -> None:
    features, queries = np.load(config.features or "", mmap_mode="r"), np.zeros((1, WIDTH), np.float32)
    for name, rows, linked in (("all", features, True), ("some", features[:9], False), ("other", features + 1, False)):
        (tmp_path / name).mkdir()
        lay_out(tmp_path / name, rows, queries)
        assert (tmp_path / name / "features.npy").is_symlink() == linked
        np.testing.assert_array_equal(np.load(tmp_path / name / "features.npy"), rows)


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(Refused, match="0.0 GB are needed there; give another --scratch"):
        lay_out(tmp_path, np.zeros((2, 300), np.float32), np.zeros((1, 300), np.float32))


@pytest.mark.parametrize("rows", [3, 6, ROWS])
@pytest.mark.parametrize("count", [1, 4])
def test_numpy_finds_the_nearest(rows: int, count: int) -> None:
    base, queries = clustered(ROWS, 0)[:rows], clustered(count, 1)
    found = in_numpy(base, np.square(base).sum(axis=1), queries, 6)
    np.testing.assert_array_equal(found, exact.nearest(base, np.arange(rows), queries, 6)[1])


def test_each_number_of_rows_has_its_lines(config: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, peers(1, 1)[0])
    found = measure(replace(config, rows=(6, 100)))
    assert [row.rows for row in found] == [6, 100]
    lines = [line.split("|") for line in shown(config, found).splitlines()]
    assert [line[1].strip() for line in lines[2:4]] == ["6", "100"]
    assert len({len(line) for line in lines[:4]}) == 1


def blind(folder: Path, wrong: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Search:
    features = np.load(folder / "features.npy")

    def search(queries: NDArray[np.float32], k: int) -> Found:
        rows = exact.nearest(features, np.arange(len(features)), queries, k)[1]
        return wrong(rows), ("certified",) * (len(rows) - 1) + ("exact",)

    return search


def of_wrong(config: Index, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., NDArray[np.int64]]) -> Compared:
    only(monkeypatch, Form("blind", partial(blind, wrong=wrong), 0))
    return measure(replace(config, checked=16))[0]


def test_a_neighbour_that_is_missed_lowers_the_recall(config: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    features, queries = np.load(config.features or ""), np.load(config.queries or "")
    farthest = int(exact.nearest(features, np.arange(ROWS), queries[:1], ROWS)[1][0, -1])

    def wrong(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([[[*rows[0, :4], farthest, farthest]], rows[1:]])

    row = of_wrong(config, monkeypatch, wrong)
    assert row.recall["value"] == pytest.approx(1 - 2 / (16 * 6))
    assert row.recall["low"] < row.recall["value"] < row.recall["high"]
    assert row.equal == 15
    assert row.settled == "93.8% certified, 6.2% exact"


def test_neighbours_in_another_order_are_recalled_and_not_equal(config: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    row = of_wrong(config, monkeypatch, lambda rows: rows[:, ::-1])
    assert (row.recall["value"], row.equal) == (1, 0)


def test_what_does_not_fit_or_is_not_installed_is_left_out_and_named(
    config: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numpy, in_place, *_ = peers(10**9, 4096)
    only(monkeypatch, numpy, in_place, replace(in_place, name="other", package="no_such_package"))
    assert [row.form for row in measure(config)] == [f"{NUMPY}, memory-mapped"]
    said = capsys.readouterr().err
    assert f"left out at 300 rows: {NUMPY}, which takes 16,384.0 GB of memory, more than --memory allows" in said
    assert "left out at 300 rows: other, which needs no_such_package: pip install -e .[peers]" in said


def test_a_form_whose_process_dies_is_left_out_and_the_others_are_not(
    config: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dying(_: Path) -> Search:
        raise BrokenProcessPool

    only(monkeypatch, Form("large", dying, 0), peers(1, 1)[0])
    assert [row.form for row in measure(config)] == [NUMPY]
    assert "left out at 300 rows: large, whose process was killed" in capsys.readouterr().err


def test_the_truth_is_that_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground_truth, "ROWS", 64)
    features, queries = clustered(ROWS, 0), clustered(20, 1)
    features[100:110] = features[5]  # ties
    queries[0] = features[5]
    expected = exact.nearest(features, np.arange(ROWS), queries, 6)
    found = ground_truth.nearest(features, queries, 6)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


def test_the_truth_is_right_where_a_product_s_rounding_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows differ by less than the last bits of a sum that holds their lengths."""
    monkeypatch.setattr(ground_truth, "ROWS", 64)
    features = np.full((ROWS, 2), 1e4, np.float32)
    features[:, 1] = np.random.default_rng(0).permutation(ROWS) * 1e-7
    query = np.array([[1e4, 0]], np.float32)
    expected = exact.nearest(features, np.arange(ROWS), query, 6)
    found = ground_truth.nearest(features, query, 6)
    np.testing.assert_array_equal(found[1], expected[1])


def test_the_memory_of_a_process_is_divided_into_its_own_and_its_files(tmp_path: Path) -> None:
    own, file = 64 << 20, tmp_path / "a file of rows"
    file.write_bytes(bytes(32 << 20))
    before = anonymous(Path("/proc/self/status").read_text())
    with mmap.mmap(-1, own, flags=mmap.MAP_PRIVATE) as block:  # not NumPy's, which may use freed memory again
        block.write(bytes(own))
        assert anonymous(Path("/proc/self/status").read_text()) - before > own * 0.9
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as memory:
        smaps = Path("/proc/self/smaps")
        assert np.frombuffer(memory[: 16 << 20], np.uint8).max() == 0  # half of it is read
        assert 16 << 20 <= mapped(smaps.read_text(), {str(file)}) < 24 << 20
        assert mapped(smaps.read_text(), {"another file"}) == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": (5,)}, "--rows 5: 6 to 300 are accepted"),
        ({"rows": (301,)}, "--rows 301: 6 to 300 are accepted"),
        ({"queries": None}, "give --features and --queries together"),
        ({"memory": "4GB"}, "'4GB' is no size of memory"),
        ({"features": Path("no such file")}, "no such file: no .npy file of features"),
        ({"rounds": 0}, "--rounds 0: at least 1 is accepted"),
        ({"scratch": Path("nowhere")}, "--scratch nowhere: not a folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(changed: dict[str, object], said: str, config: Index) -> None:
    with pytest.raises(ValueError, match=said):
        measure(replace(config, **changed))  # type: ignore[arg-type]


def test_queries_of_another_width_or_kind_are_refused(config: Index, tmp_path: Path) -> None:
    for name, array, said in (
        ("w", np.zeros((3, 5), np.float32), "5 numbers a row, the features have 64"),
        ("d", np.zeros((3, 64)), r"float64 \(3, 64\), float32 \(rows, numbers\) is accepted"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(Refused, match=said):
            measure(replace(config, queries=tmp_path / f"{name}.npy"))


def test_a_bundle_s_rows_are_compared_for_held_out_images(
    config: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, peers(1, 1)[1])
    bundle, data = build(tmp_path), packed(tmp_path / "packed", LABELS)
    held = replace(config, bundle=bundle, data=data, features=None, queries=None, checked=9, batch=4)
    (row,) = measure(held)
    assert (row.rows, row.checked) == (29, 9)


@pytest.mark.slow
def test_the_command_prints_a_table_from_processes_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", clustered(ROWS, 0))
    np.save(tmp_path / "q.npy", clustered(20, 1))
    files = ["--features", str(tmp_path / "f.npy"), "--queries", str(tmp_path / "q.npy"), "--scratch", str(tmp_path)]
    numbers = ["--rows", "200", "--checked", "20", "--batch", "8", "--rounds", "1", "--json"]
    said = subprocess.run(
        [sys.executable, "scripts/benchmark.py", "index", *files, *numbers], cwd=ROOT, capture_output=True, check=True
    )
    rows = json.loads(said.stdout)["rows"]
    assert {NUMPY, "FAISS IndexHNSWFlat"} <= {row["form"] for row in rows}
    in_place = next(row for row in rows if row["form"] == f"{NUMPY}, memory-mapped")
    assert in_place["mapped_mb"] >= 4 * 200 * WIDTH / 1e6
    assert all(row["anonymous_mb"] > 1 for row in rows)
