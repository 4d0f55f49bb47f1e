"""Queries are a dataset's held-out split, or a few images that their names choose, the same ones while it grows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.held_out import chosen, held_out_split, kept_out
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.rows import ArraySource
from tests.images import encoded, photograph
from tests.model.data.test_shards import write as shard

NAMES = [f"{n:04}.png" for n in range(1000)]


def source(names: list[str], split: str = "all") -> ArraySource:
    images = np.zeros((len(names), 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(names)) % 256
    return ArraySource(images, np.zeros(len(names), np.int64), names, ("cat",), split)


def write(folder: Path, *files: str) -> None:
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(photograph(seed=number)))


def test_names_choose_whatever_their_order() -> None:
    first = {NAMES[position] for position in chosen(NAMES, 20)}
    assert len(first) == 20
    assert {NAMES[::-1][position] for position in chosen(NAMES[::-1], 20)} == first
    assert chosen(NAMES, 20) == sorted(chosen(NAMES, 20))
    assert set(chosen(NAMES, 10)) < set(chosen(NAMES, 20))
    assert not set(chosen(NAMES, 20)) >= set(range(20))  # by the hash, not the first ones
    assert chosen(NAMES[:3], 20) == [0, 1, 2]


def test_at_most_one_image_in_a_hundred_is_kept_out() -> None:
    assert kept_out(source(NAMES), 200) == chosen(NAMES, 10)
    assert kept_out(source(NAMES), 7) == chosen(NAMES, 7)
    assert kept_out(source(NAMES[:99]), 200) == []
    assert kept_out(source(NAMES), 0) == []


def test_a_collection_that_grows_or_shrinks_keeps_its_queries() -> None:
    earlier = {NAMES[position] for position in kept_out(source(NAMES), 200)}
    grown = [*(f"new/{n:04}.png" for n in range(5000)), *NAMES]
    assert {grown[position] for position in kept_out(source(grown), 200, earlier)} == earlier
    shrunk = [name for name in NAMES if name != min(earlier)]
    assert {shrunk[position] for position in kept_out(source(shrunk), 200, earlier)} == earlier - {min(earlier)}


@pytest.mark.parametrize(("splits", "first"), [(("test",), "test"), (("test", "val"), "val"), ((), None)])
def test_a_packed_datasets_split_is_used(tmp_path: Path, splits: tuple[str, ...], first: str | None) -> None:
    made = {name: source([f"{name}.png"], name) for name in ("train", *splits)}
    pack(tmp_path / "packed", made)
    found = held_out_split(tmp_path / "packed", 8)
    assert (found and [name for name, _, _ in found.entries()]) == (first and [f"{first}.png"])


def test_a_packed_split_without_images_is_none(tmp_path: Path) -> None:
    unlabelled = replace(source(["val.png"], "val"), labels=np.array([-1]))  # which packing leaves out
    pack(tmp_path / "packed", {"train": source(["train.png"], "train"), "val": unlabelled})
    assert held_out_split(tmp_path / "packed", 8) is None


def test_a_folders_subfolder_is_used_where_another_is_for_training(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/a.png", "val/dog/b.png", "test/cat/c.png")
    found = held_out_split(tmp_path, 8)
    assert found is not None
    assert [name for name, _, _ in found.entries()] == ["dog/b.png"]
    assert found.classes == ("dog",)
    assert held_out_split(tmp_path / "train", 8) is None


def test_shards_beside_those_for_training_are_used(tmp_path: Path) -> None:
    for split, names in (("train", ["a.png"]), ("val", ["b.png", "c.png"])):
        shard(tmp_path / split / "0.tar", *((name, encoded(photograph())) for name in names))
    found = held_out_split(tmp_path, 8)
    assert found is not None
    assert [name for name, _, _ in found.entries()] == ["0.tar/b.png", "0.tar/c.png"]


def test_a_packed_dataset_of_other_pixels_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "packed", {name: source([f"{name}.png"], name) for name in ("train", "val")})
    with pytest.raises(BadDataset, match="images of 8 pixels where the network's recipe stores 9"):
        held_out_split(tmp_path / "packed", 9)


def test_a_class_called_test_is_no_split(tmp_path: Path) -> None:
    write(tmp_path, "test/a.png", "exam/b.png")
    assert held_out_split(tmp_path, 8) is None


def test_a_dataset_without_held_out_images_has_none(tmp_path: Path) -> None:
    write(tmp_path, "train/cat/a.png", "val/notes.txt")
    assert held_out_split(tmp_path, 8) is None
