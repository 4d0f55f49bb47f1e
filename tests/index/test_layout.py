"""A layout's files: made once, the same each time, and opened without a look at the rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle
from index import layout as laying
from index.layout import Layout, lengths_of, open_search, prepare
from index.scans.shards import gpus_of
from tests.index.laid import KINDS, laid

FEATURES = np.random.default_rng(0).standard_normal((300, 32), dtype=np.float32)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", ["flat", "panorama", "hnsw"])
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


@pytest.mark.parametrize("missing", ["graph-6-000", "proof-24-000"])
def test_only_what_is_missing_is_written(missing: str, tmp_path: Path) -> None:
    laid(tmp_path, [(FEATURES, np.arange(300))], KINDS["hnsw"], [])
    segment, before = tmp_path / "segments" / "0001", files(tmp_path)
    (segment / f"{missing}.faiss").unlink()
    kept = {file: file.stat().st_ino for file in segment.iterdir() if missing not in file.name}
    prepare(tmp_path, segment, KINDS["hnsw"])
    assert files(tmp_path) == before
    assert {file: file.stat().st_ino for file in kept} == kept


@pytest.mark.parametrize("kind", ["panorama", "hnsw"])
@pytest.mark.parametrize("damage", ["header", "short", "empty", "none"])
def test_files_that_cannot_be_used_are_told_by_name(kind: str, damage: str, tmp_path: Path) -> None:
    """Where the size is right, nothing else has told yet."""
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], KINDS[kind], [])
    written = [file for file in tmp_path.rglob("*.*") if file.name not in ("features.npy", "ids.npy")]
    assert len(written) >= 5
    for file in written:
        whole = file.read_bytes()
        file.unlink()
        if damage != "none":
            file.write_bytes({"header": b"\xff" * 40 + whole[40:], "short": whole[:-1], "empty": b""}[damage])
        with pytest.raises(BadBundle, match=file.name.partition(".")[0]):
            open_search(generation)
        file.write_bytes(whole)
    open_search(generation)


def test_files_of_other_rows_are_told_by_name(tmp_path: Path) -> None:
    generation = laid(tmp_path / "a", [(FEATURES, np.arange(300))], KINDS["hnsw"], [])
    other = laid(tmp_path / "b", [(FEATURES[:200, :16], np.arange(200))], KINDS["hnsw"], [])
    for name in ("projection.npy", "segments/0001/lengths.npy", "segments/0001/graph-6-000.faiss"):
        whole = (generation.path / name).read_bytes()
        (generation.path / name).write_bytes((other.path / name).read_bytes())
        with pytest.raises(BadBundle, match=name):
            open_search(generation)
        (generation.path / name).write_bytes(whole)


def test_a_projection_that_is_not_finite_is_told(tmp_path: Path) -> None:
    """It would leave out every row."""
    generation = laid(tmp_path, [(FEATURES, np.arange(300))], KINDS["panorama"], [])
    basis = np.load(tmp_path / "projection.npy")
    basis[3, 4] = np.nan
    np.save(tmp_path / "projection.npy", basis)
    with pytest.raises(BadBundle, match=r"projection\.npy: not the projection of rows of 32 numbers"):
        open_search(generation)


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
