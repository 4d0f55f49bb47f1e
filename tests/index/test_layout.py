"""A layout's files: made once, the same each time, and opened without a look at the rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import layout as laying
from index.layout import Layout, lengths_of, open_search, prepare
from index.scans.shards import gpus_of
from tests.index.laid import KINDS, laid

FEATURES = np.random.default_rng(0).standard_normal((300, 32), dtype=np.float32)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", ["flat", "panorama"])
def test_equal_features_give_equal_files(kind: str, tmp_path: Path) -> None:
    for name in "ab":
        laid(tmp_path / name, [(FEATURES, np.arange(300))], KINDS[kind], [])
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_files_that_are_there_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be links to another generation's."""
    layout = KINDS["panorama"]
    laid(tmp_path, [(FEATURES, np.arange(300))], layout, [])
    before = files(tmp_path)
    monkeypatch.setattr(laying, "fit", None)
    prepare(tmp_path, tmp_path / "segments" / "0001", layout)
    assert files(tmp_path) == before
    (file,) = (tmp_path / "segments" / "0001").glob("proof-*.faiss")
    file.unlink()
    prepare(tmp_path, tmp_path / "segments" / "0001", layout)
    assert files(tmp_path) == before


def test_a_layout_may_be_added_to_segments_of_another(tmp_path: Path) -> None:
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], Layout(), [])
    for layout in (Layout("panorama", 24, 6), Layout("panorama", 16, 4), Layout("hnsw", 16, 4)):
        prepare(tmp_path, generation.segments[0].path, layout)
        other = replace(generation, layout=layout)
        assert open_search(other).search(FEATURES[:5], 1).ids[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_layout_with_more_components_than_numbers_takes_all(tmp_path: Path) -> None:
    layout = Layout("panorama", 512, 128)
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], layout, [])
    assert open_search(generation).search(FEATURES[:5], 1).ids[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_opening_reads_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], KINDS["panorama"], [])
    monkeypatch.setattr("index.exact.distances", None)
    open_search(generation)


def test_lengths_are_those_of_the_rows(tmp_path: Path) -> None:
    laid(tmp_path, [(FEATURES, np.arange(300))], Layout(), [])
    stored = np.load(tmp_path / "segments" / "0001" / "lengths.npy")
    np.testing.assert_array_equal(stored, lengths_of(FEATURES))
    np.testing.assert_allclose(stored, np.linalg.norm(FEATURES.astype(np.float64), axis=1), rtol=1e-15)


def test_a_search_in_float16_is_flat(tmp_path: Path) -> None:
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], KINDS["panorama"], [])
    found = open_search(generation, gpus=gpus_of("cpu"), float16=True)
    assert found.search(FEATURES[:2], 1, measured=True).exactness == ("certified", "certified")
