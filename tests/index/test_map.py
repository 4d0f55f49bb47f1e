"""Each generation has a map of its own images: the same bytes each time, after any change, and by either way."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index import BadBundle, Bundle, Layout
from index.map import MAP, NoUmap, check_map, write_map
from tests.index.blocks import PLAIN, Run, build, changes, collection
from tests.index.laid import KINDS, laid

PCA = Run(layout=Layout(map="pca"))


def plane_of(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Principal components by the definition: (n, d) -> (n, 2)."""
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    u, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(u[:, :2] * lengths[:2])


def clusters(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows (n, d) about three centres, row i about centre i % 3."""
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((n, d)) * np.linspace(1, 0.05, d)
    return np.asarray(spread + 6 * rng.standard_normal((3, d))[np.arange(n) % 3], np.float32)


@pytest.mark.parametrize("kind", ["flat", "panorama"])
def test_pca_is_the_two_directions_in_which_features_differ_most(kind: str, tmp_path: Path) -> None:
    rows = clusters(300, 32)
    layout, ids = replace(KINDS[kind], map="pca"), np.arange(300, dtype=np.int64)
    parts = [(rows[:80], ids[:80]), (rows[80:], ids[80:])]
    generation = laid(tmp_path, parts, layout, [5, 200])
    write_map(tmp_path, [segment.path for segment in generation.segments], generation.removed, "pca")
    left = np.setdiff1d(ids, [5, 200])
    expected, found = plane_of(rows[left]), np.load(tmp_path / MAP)
    assert found.dtype == np.float32
    for axis in range(2):  # which way an axis points is free
        np.testing.assert_allclose(np.abs(found[:, axis]), np.abs(expected[:, axis]), atol=1e-2)


def test_a_generation_has_a_map_of_its_own_images_whatever_changed(tmp_path: Path, checkpoint: Path) -> None:
    first = build(tmp_path / "bundle", checkpoint, collection(100), PCA)
    positions = first.positions()
    assert positions is not None
    assert positions.shape == (len(first.ids), 2)
    assert MAP in first.manifest.parts
    build(tmp_path / "bundle", checkpoint, collection(), PCA)
    smaller = Bundle(tmp_path / "bundle").remove([1, 8])  # two segments, and it has only base.manifest to know by
    again = smaller.positions()
    assert again is not None
    rows = smaller.rows(smaller.ids)
    np.testing.assert_allclose(np.abs(again), np.abs(plane_of(rows)), atol=1e-3)
    assert smaller.layout.map == "pca"


def test_a_map_that_is_wanted_later_is_made_without_embedding(tmp_path: Path, checkpoint: Path) -> None:
    without = build(tmp_path / "bundle", checkpoint)
    assert without.positions() is None
    assert MAP not in without.manifest.parts
    found = changes(tmp_path / "bundle", collection(), PCA)
    assert not found.empty
    assert len(found.new) == 0
    with_map = build(tmp_path / "bundle", checkpoint, collection(), PCA)
    assert with_map.manifest.segments == without.manifest.segments
    assert with_map.positions() is not None
    assert changes(tmp_path / "bundle", collection(), PCA).empty
    assert not changes(tmp_path / "bundle", collection(), PLAIN).empty


def test_a_manifest_of_before_there_were_maps_has_none(tmp_path: Path, checkpoint: Path) -> None:
    generation = build(tmp_path / "bundle", checkpoint)
    fields = {name: value for name, value in generation.manifest.index.items() if name != "map"}
    assert Layout(**fields).map == "none"


def test_a_map_of_other_images_is_damage(tmp_path: Path, checkpoint: Path) -> None:
    generation = build(tmp_path / "bundle", checkpoint, collection(40), PCA)
    np.save(generation.path / MAP, np.zeros((2 * len(generation.ids), 1), np.float32))  # as many bytes
    with pytest.raises(BadBundle, match=r"map\.npy: \(\d+, 1\) positions of \d+ images"):
        Bundle(tmp_path / "bundle").current().positions()


def test_a_map_can_be_read_when_its_generation_was_removed(tmp_path: Path, checkpoint: Path) -> None:
    generation = build(tmp_path / "bundle", checkpoint, collection(40), PCA)
    for image_id in (1, 2, 3):
        Bundle(tmp_path / "bundle").remove([image_id]).close()
    assert not generation.path.exists()
    positions = generation.positions()
    assert positions is not None
    assert np.isfinite(positions).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # UMAP's own, when it is imported
def test_umap_keeps_clusters_apart_and_gives_the_same_bytes(tmp_path: Path) -> None:
    rows, ids = clusters(90, 20), np.arange(90, dtype=np.int64)
    made = []
    for name in ("a", "b"):
        generation = laid(tmp_path / name, [(rows, ids)], Layout(), [])
        write_map(tmp_path / name, [segment.path for segment in generation.segments], generation.removed, "umap")
        made.append((tmp_path / name / MAP).read_bytes())
    assert made[0] == made[1]
    positions = np.load(tmp_path / "a" / MAP)
    nearest = np.linalg.norm(positions[:, None] - positions, axis=2) + np.diag(np.full(90, np.inf))
    assert (nearest.argmin(1) % 3 == ids % 3).all()


def test_too_few_images_for_umap_get_a_map_all_the_same(tmp_path: Path) -> None:
    for count in (1, 2, 15):
        rows, ids = clusters(count, 20), np.arange(count, dtype=np.int64)
        generation = laid(tmp_path / str(count), [(rows, ids)], Layout(), [])
        write_map(generation.path, [segment.path for segment in generation.segments], generation.removed, "umap")
        found = np.load(generation.path / MAP)
        assert found.shape == (count, 2)
        assert np.isfinite(found).all()


def test_umap_that_is_not_installed_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("index.map.find_spec", lambda name: None if name == "umap" else there(name))
    check_map("pca")
    with pytest.raises(NoUmap, match=r"pip install 'fc7\[umap\]'"):
        check_map("umap")
