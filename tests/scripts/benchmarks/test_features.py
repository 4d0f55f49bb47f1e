"""Rows for measuring: which image's which crop each of them is, and that a stopped run ends as one that was not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import files
from model import Embedder, PackedSet, load_checkpoint
from model.preprocess import central
from scripts.benchmarks import features
from scripts.benchmarks.features import Made, Variants, measure, shown
from scripts.benchmarks.settings import Features
from scripts.command import Refused
from tests.scripts.benchmarks.test_retrieval import HELD_OUT, LABELS, packed
from tests.service.bundles import build

TRAINING = 3  # images in the split train that `packed` makes


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Features:
    folder = tmp_path_factory.mktemp("features")
    checkpoint = build(folder) / "generations" / "0001" / "checkpoint.safetensors"
    data = packed(folder / "packed", LABELS)
    return Features(data=data, checkpoint=checkpoint, rows=11, out=folder / "out", queries=5, device="cpu")


@pytest.mark.parametrize(("size", "crop"), [(6, 4), (7, 4), (5, 5)])
def test_an_image_s_rows_are_all_its_crops_and_mirror_images_each_once(size: int, crop: int) -> None:
    images = np.arange(2 * size * size * 3, dtype=np.uint8).reshape(2, size, size, 3)
    variants, margin = Variants.of(2, size - crop, seed=3), size - crop
    rows = np.arange(variants.most)
    seen = central(size, crop)  # by the network
    found = variants.made(images[rows % 2], rows)[:, seen, seen]
    np.testing.assert_array_equal(found[:2], images[:, seen, seen])
    for i, image in enumerate(images):
        wanted = {
            side[y : y + crop, x : x + crop].tobytes()
            for side in (image, image[:, ::-1])
            for y in range(margin + 1)
            for x in range(margin + 1)
        }
        made = [crop_.tobytes() for crop_ in found[i::2]]
        assert len(made) == len(set(made)) == 2 * (margin + 1) ** 2
        assert set(made) == wanted


def test_another_seed_gives_another_order() -> None:
    images, rows = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(1, 6, 6, 3), np.arange(1, 9)
    one, again, other = (Variants.of(1, 2, seed).made(images[[0] * 8], rows) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def rows_of(config: Features) -> NDArray[np.float32]:
    loaded: NDArray[np.float32] = np.load(config.out / "features.npy")
    return loaded


def test_the_rows_are_the_training_images_then_more_and_the_queries_are_held_out(config: Features) -> None:
    (made,) = measure(config)
    assert (made.rows, made.new) == (11, 11)
    embedder, data = Embedder(load_checkpoint(config.checkpoint), "cpu"), PackedSet.open(config.data)
    found = rows_of(config)
    assert found.shape == (11, embedder.width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:TRAINING], embedder(data.split("train").images(slice(0, 3)))[1], rtol=1e-4)
    assert len(np.unique(found, axis=0)) == 11
    np.testing.assert_array_equal(np.load(config.out / "queries.npy"), embedder(HELD_OUT[:5])[1])
    assert "| 11   | 11  |" in shown([made])
    assert measure(config)[0].new == 0


def test_what_was_stopped_or_is_to_be_longer_continues(
    config: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BLOCK", 4)
    at_once, stopped = replace(config, out=tmp_path / "a"), replace(config, out=tmp_path / "b")
    measure(at_once)
    whole = (at_once.out / "features.npy").read_bytes()
    part = stopped.out / "features.npy.part"
    measure(replace(stopped, rows=6))
    (made,) = measure(stopped)
    assert replace(made, seconds=0) == Made(str(stopped.out / "features.npy"), 11, 7, 0)
    assert (stopped.out / "features.npy").read_bytes() == whole
    row = (len(whole) - files.NPY_HEADER) // 11
    (stopped.out / "features.npy").unlink()
    for kept in (0, files.NPY_HEADER + 1, files.NPY_HEADER + 5 * row + 3):  # a process that was killed
        part.write_bytes(whole[:kept])
        measure(stopped)
        assert not part.exists()
        assert (stopped.out / "features.npy").read_bytes() == whole
        (stopped.out / "features.npy").unlink()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"queries": 10}, "--queries 10: .* has 9 images in split 'test'"),
        ({"rows": 10**9}, r"--rows 1000000000: 3 images give \d+ different rows, no more"),
        ({"rows": 0}, "--rows 0: at least 1 is accepted"),
        ({"seed": 1}, "holds features made from something else; delete it, or give another --out"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(changed: dict[str, int], said: str, config: Features) -> None:
    measure(config)
    with pytest.raises(Refused, match=said):
        measure(replace(config, **changed))  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_refused(config: Features, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="file.* cannot be written"):
        measure(replace(config, out=tmp_path / "file" / "out"))
