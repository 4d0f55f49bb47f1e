"""Packed datasets: what is read back, and what a damaged one says."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.data.packed import BadDataset, PackedSet
from model.data.packed_writer import Encoding
from model.data.packing import pack
from model.data.rows import ArraySource

CLASSES = ("cat", "dog")


def source(rows: int = 7, size: int = 6, seed: int = 0) -> ArraySource:
    """Random images of two classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, rows)
    return ArraySource(images, labels, [f"p/{row}.png" for row in range(rows)], CLASSES, f"{seed} {rows} {size}")


@pytest.fixture
def packed(tmp_path: Path) -> PackedSet:
    return pack(tmp_path / "set", {"train": source(), "test": source(3, seed=1)})


def test_everything_is_read_back(packed: PackedSet) -> None:
    assert (packed.name, packed.classes, packed.size, packed.encoding) == ("set", CLASSES, 6, "raw")
    assert packed.splits == ("train", "test")
    for name, given in (("train", source()), ("test", source(3, seed=1))):
        split = packed.split(name)
        assert len(split) == len(given)
        np.testing.assert_array_equal(split.labels, given.labels)
        assert split.labels.dtype == np.int64
        assert list(split.names) == list(given.names)
        assert split.skipped == ()
        np.testing.assert_array_equal(split.images(slice(None)), given.images)
    with pytest.raises(BadDataset, match="no split 'val'; it has train, test"):
        packed.split("val")


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_rows_may_be_a_slice_or_ids_and_the_result_is_the_callers(tmp_path: Path, encoding: Encoding) -> None:
    split = pack(tmp_path / "set", {"train": source()}, encoding=encoding).split("train")
    everything = split.images(slice(None))
    rows = np.array([5, 0, 5, -1])
    for wanted in (slice(2, 5), slice(5, 99), slice(3, 3), rows, rows[:0]):
        images = split.images(wanted)
        np.testing.assert_array_equal(images, everything[wanted])
        assert images.flags.c_contiguous
        assert images.flags.writeable
        buffer = np.zeros_like(images)
        assert split.images(wanted, buffer) is buffer
        np.testing.assert_array_equal(buffer, images)
    everything[:] = 0
    assert split.images(slice(None)).any()
    with pytest.raises(IndexError):
        split.images(np.array([7]))
    with pytest.raises(ValueError, match=r"a buffer of uint8 \(2, 6, 6, 3\) for images of uint8 \(3, 6, 6, 3\)"):
        split.images(slice(0, 3), np.zeros((2, 6, 6, 3), np.uint8))


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path, packed: PackedSet) -> None:
    twin = pack(tmp_path / "twin", {"train": source(), "test": source(3, seed=1)})
    other = pack(tmp_path / "other", {"train": source(), "test": source(3, seed=2)})
    assert twin.fingerprint == packed.fingerprint
    assert other.fingerprint != packed.fingerprint


def test_a_folder_without_meta_is_not_a_packed_set(packed: PackedSet, tmp_path: Path) -> None:
    (packed.path / "meta.json").unlink()
    for place in (packed.path, tmp_path / "nowhere"):
        with pytest.raises(BadDataset, match="no meta.json, so not a complete packed dataset"):
            PackedSet.open(place)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not a packed dataset of format 1"),
        ('{"format": 99}', "not a packed dataset of format 1"),
    ],
)
def test_meta_that_is_not_ours_is_refused(packed: PackedSet, text: str, complaint: str) -> None:
    (packed.path / "meta.json").write_text(text)
    with pytest.raises(BadDataset, match=complaint):
        PackedSet.open(packed.path)


@pytest.mark.parametrize("key", ["classes", "size", "encoding", "splits", "mean", "pca", "name"])
def test_meta_that_lacks_something_is_refused(packed: PackedSet, key: str) -> None:
    file = packed.path / "meta.json"
    meta = json.loads(file.read_text())
    del meta[key]
    file.write_text(json.dumps(meta))
    with pytest.raises(BadDataset, match=key):
        PackedSet.open(packed.path)


@pytest.mark.parametrize(("key", "value"), [("size", "wide"), ("splits", {"train": {"rows": "many"}}), ("pca", [])])
def test_meta_of_another_form_is_refused(packed: PackedSet, key: str, value: object) -> None:
    file = packed.path / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(BadDataset, match=r"meta\.json: not what this code wrote"):
        PackedSet.open(packed.path)


@pytest.mark.parametrize("file", ["train/images.npy", "test/images.npy", "train/labels.npy", "mean.npy"])
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_array_is_refused_by_name(packed: PackedSet, file: str, keep: int) -> None:
    place = packed.path / file
    place.write_bytes(place.read_bytes()[:keep])
    with pytest.raises(BadDataset, match=file.replace(".", r"\.")):
        PackedSet.open(packed.path)


@pytest.mark.parametrize("file", ["train/images.npy", "train/labels.npy", "mean.npy"])
def test_a_missing_file_is_refused_by_name(packed: PackedSet, file: str) -> None:
    (packed.path / file).unlink()
    with pytest.raises(BadDataset, match=f"{file}: No such file or directory"):
        PackedSet.open(packed.path)


def test_arrays_of_another_size_or_kind_are_refused(packed: PackedSet) -> None:
    np.save(packed.path / "train" / "images.npy", np.zeros((7, 5, 5, 3), np.uint8))
    with pytest.raises(BadDataset, match=r"uint8 \(7, 5, 5, 3\) where uint8 \(7, 6, 6, 3\) belongs"):
        PackedSet.open(packed.path)
    np.save(packed.path / "train" / "labels.npy", np.zeros(7, np.int32))
    with pytest.raises(BadDataset, match=r"int32 \(7,\) where int64 \(7,\) belongs"):
        PackedSet.open(packed.path)


@pytest.mark.parametrize("label", [2, -2])
def test_labels_that_are_no_class_are_refused(packed: PackedSet, label: int) -> None:
    labels = packed.split("train").labels.copy()
    labels[3] = label
    np.save(packed.path / "train" / "labels.npy", labels)
    with pytest.raises(BadDataset, match="labels outside 0 to 1"):
        PackedSet.open(packed.path)


def test_names_that_do_not_match_are_refused(packed: PackedSet) -> None:
    (packed.path / "train" / "names.txt").write_text("one\n")
    with pytest.raises(BadDataset, match="1 names for 7 images"):
        _ = PackedSet.open(packed.path).split("train").names


def test_damaged_jpegs_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "set", {"train": source()}, encoding="jpeg").path
    data = path / "train" / "images.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(BadDataset, match="not the .* that were packed"):
        PackedSet.open(path)
    data.write_bytes(b"\0" * 50 + whole[50:])
    with pytest.raises(BadDataset, match="row 0 of the packed dataset is damaged"):
        PackedSet.open(path).split("train").images(slice(0, 2))
