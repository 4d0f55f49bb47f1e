"""Collections: ids, order, labels, and what is left out with a reason."""

import hashlib
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from model.data import encoded as encoded_images
from model.data import sources
from model.data.folders import folder_source, open_source
from model.data.loader import Subset
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.data.rows import ArraySource, packed_source
from model.data.sources import Source
from model.data.splits import divided, folder_splits, shuffled, training_and_validation
from model.preprocess import stored_image
from tests.images import BROKEN, IMAGES, encoded, photograph


def class_folders(root: Path, classes: int = 3, each: int = 4) -> Path:
    """PNG photographs of 40 x 30, each different, in folders c0, c1, ..."""
    for label in range(classes):
        for number in range(each):
            file = root / f"c{label}" / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(photograph(30, 40, seed=100 * label + number)))
    return root


def test_ids_follow_classes_then_names_and_images_are_the_one_preprocessing(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path), 16)
    items = source.read(0, len(source))
    assert source.classes == ("c0", "c1", "c2")
    assert [item.image_id for item in items] == list(range(12))
    assert [item.name for item in items] == [f"c{c}/{n:03d}.png" for c in range(3) for n in range(4)]
    assert [item.label for item in items] == [0] * 4 + [1] * 4 + [2] * 4
    for item in items:
        assert item.skipped is None
        assert item.image is not None
        np.testing.assert_array_equal(item.image, stored_image((tmp_path / item.name).read_bytes(), 16))


def test_any_stretch_reads_the_same_items(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path), 8)
    whole = source.read(0, 12)
    for start, stop in ((0, 5), (5, 12), (11, 99), (4, 4)):
        for one, other in zip(source.read(start, stop), whole[start:stop], strict=True):
            assert (one.image_id, one.name, one.label) == (other.image_id, other.name, other.label)
            np.testing.assert_array_equal(one.image, other.image)


def test_broken_files_keep_their_ids_and_say_why(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "odd").mkdir()
    for number, make in enumerate(IMAGES.values()):
        (tmp_path / "good" / f"{number:03d}").write_bytes(make())
    for name, make in BROKEN.items():
        (tmp_path / "odd" / f"{name}.jpg").write_bytes(make())
    items = folder_source(tmp_path, 16).read(0, 1000)
    good, odd = items[: len(IMAGES)], items[len(IMAGES) :]
    assert all(item.image is not None and item.skipped is None for item in good)
    assert all(item.image is None and item.skipped for item in odd)
    assert [item.image_id for item in odd] == list(range(len(IMAGES), len(items)))
    assert [item.name for item in odd] == sorted(f"odd/{name}.jpg" for name in BROKEN)


def test_a_file_that_goes_away_is_skipped(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path), 8)
    (tmp_path / "c1" / "002.png").unlink()
    item = source.read(6, 7)[0]
    assert item.image is None
    assert item.skipped == "the file cannot be read: No such file or directory"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("later", [False, True])
def test_a_file_that_becomes_a_pipe_is_skipped_without_waiting_for_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    source = folder_source(class_folders(tmp_path), 8)
    (tmp_path / "c1" / "002.png").unlink()
    os.mkfifo(tmp_path / "c1" / "002.png")
    if later:  # it was a file when it was looked at
        about = (tmp_path / "c1" / "001.png").stat()
        monkeypatch.setattr(os, "stat", lambda _: about)
    else:
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    try:
        item = source.read(6, 7)[0]
    finally:
        monkeypatch.undo()
        os.close(os.open(tmp_path / "c1" / "002.png", os.O_RDWR))  # lets go of a thread that waits after all
    assert (item.image, item.skipped) == (None, "not an ordinary file")


def test_an_identity_notices_what_changed(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path), 8)
    before = source.identity(0, 4)
    assert before == folder_source(tmp_path, 8).identity(0, 4)
    assert len({before, source.identity(4, 8), source.identity(0, 5), folder_source(tmp_path, 9).identity(0, 4)}) == 4
    (tmp_path / "c0" / "000.png").write_bytes(IMAGES["plain PNG"]())
    assert before != source.identity(0, 4)


def test_an_identity_notices_what_can_be_read_now(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path), 8)
    file, seen = tmp_path / "c0" / "000.png", [source.identity(0, 4)]
    about = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    seen.append(source.identity(0, 4))
    file.unlink()
    seen.append(source.identity(0, 4))
    file.symlink_to(file)
    seen.append(source.identity(0, 4))
    assert len(set(seen)) == 4


def test_entries_tell_what_changed_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_source(class_folders(tmp_path, classes=2, each=2), 8)
    with monkeypatch.context() as closed:
        closed.setattr(os, "open", lambda *_: pytest.fail("opened"))
        before = list(source.entries())
    assert [(name, label) for name, label, _ in before] == [(i.name, i.label) for i in source.read(0, 4)]
    assert [state for _, _, state in before] == [item.state for item in source.read(0, 4)]
    os.utime(tmp_path / "c0" / "001.png", ns=(0, 5))
    (tmp_path / "c1" / "000.png").unlink()
    changed = [one == other for one, other in zip(before, source.entries(), strict=True)]
    assert changed == [True, False, False, True]


def test_an_items_state_is_older_than_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_source(class_folders(tmp_path, classes=1, each=1), 8)
    [(_, _, before)] = source.entries()

    def data(image: encoded_images.EncodedImage) -> bytes:
        os.utime(image.file, ns=(0, 5))
        return Path(image.file).read_bytes()

    monkeypatch.setattr(encoded_images.EncodedImage, "data", data)
    assert source.read(0, 1)[0].state == before


def test_a_content_is_of_the_encoded_bytes_and_of_the_pixels_where_there_are_no_others(tmp_path: Path) -> None:
    folder = folder_source(class_folders(tmp_path / "images"), 8)
    array = np.concatenate([item.image[None] for item in folder.read(0, 12) if item.image is not None])
    for encoding in ("raw", "jpeg"):
        packed = packed_source(pack(tmp_path / encoding, {"train": folder}, encoding=encoding))
        for item in packed.read(0, 12, known=()):
            assert item.image is not None
            assert item.content == hashlib.sha256(item.image.tobytes()).hexdigest()
    in_memory = ArraySource(array, np.zeros(12, np.int64), [str(i) for i in range(12)], ("c",), "f")
    assert in_memory.read(3, 4, known=())[0].content == hashlib.sha256(array[3].tobytes()).hexdigest()
    for item in folder.read(0, 12, known=()):
        assert item.content == hashlib.sha256((tmp_path / "images" / item.name).read_bytes()).hexdigest()
        assert item.thumbnail is not None
    assert folder.read(0, 1)[0].content is None  # packing needs none


def test_a_known_content_is_not_decoded_and_has_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_source(class_folders(tmp_path / "images"), 8)
    for source in (folder, packed_source(pack(tmp_path / "packed", {"train": folder}))):
        items = source.read(0, 12, known=())
        known = [items[i].content or "" for i in (3, 5)]
        again = source.read(0, 12, known)
        assert [i for i, item in enumerate(again) if item.image is None] == [3, 5]
        assert [i for i, item in enumerate(again) if item.thumbnail is None] == [3, 5]
        assert [item.content for item in again] == [item.content for item in items]
        assert all(item.skipped is None for item in again)
    known = [item.content or "" for item in folder.read(0, 1, known=())]
    monkeypatch.setattr(encoded_images, "stored_image_and_thumbnail", lambda *_: pytest.fail("decoded"))
    folder.read(0, 1, known)


def test_what_cannot_be_read_has_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    [item] = folder_source(tmp_path, 8).read(0, 1, known=())
    assert (item.content, item.thumbnail, item.skipped) == (None, None, item.skipped)
    assert item.skipped is not None


def test_a_subset_is_a_collection_of_those_items_in_that_order(tmp_path: Path) -> None:
    folder = folder_source(class_folders(tmp_path / "images"), 8)
    packed = packed_source(pack(tmp_path / "packed", {"train": folder}))
    images = np.concatenate([item.image[None] for item in folder.read(0, 12) if item.image is not None])
    in_memory = ArraySource(images, packed.labels, packed.names, folder.classes, "f")
    sources: list[Source] = [folder, packed, in_memory]
    for source in sources:
        items, part = source.read(0, 12, known=()), source.subset([7, 2, 11])
        assert (len(part), part.classes, part.size) == (3, source.classes, source.size)
        assert [(name, label) for name, label, _ in part.entries()] == [
            (items[i].name, items[i].label) for i in (7, 2, 11)
        ]
        for image_id, (one, of) in enumerate(zip(part.read(0, 9, known=()), (7, 2, 11), strict=True)):
            assert (one.image_id, one.name, one.label, one.content) == (
                image_id,
                items[of].name,
                items[of].label,
                items[of].content,
            )
            np.testing.assert_array_equal(one.image, items[of].image)
        assert [item.name for item in part.subset([2, 0]).read(1, 2)] == [items[7].name]
        assert part.identity(0, 3) == source.subset([7, 2, 11]).identity(0, 3)
        others = (source.subset([7, 2, 10]), source.subset([7, 11, 2]), source)
        assert part.identity(0, 3) not in [other.identity(0, 3) for other in others]


def test_names_are_one_printable_line_and_stay_different() -> None:
    names = [
        b"a",
        b"\xff",
        rb"\xff",
        rb"\\xff",
        b"\n",
        rb"\n",
        b"\r",
        b"\x1b[2J",
        rb"\x1b[2J",
        "\u0085".encode(),
        b"\x85",
    ]
    names += [
        rb"\x85",
        rb"\u0085",
        "\u2028".encode(),
        "b\u00e9 \U0001f469\u200d\U0001f680".encode(),
        b"\xc3",
        "\u00c3".encode(),
    ]
    shown = [sources.printable(os.fsdecode(name)) for name in names]
    assert len(set(shown)) == len(names)
    for name in shown:
        assert name.encode().decode().splitlines() == [name]
        assert not any(unicodedata.category(character) == "Cc" for character in name)
    assert shown[0] == "a"
    assert shown[1] == r"\xff"


def test_a_packed_set_is_a_collection_too(tmp_path: Path) -> None:
    folder = folder_source(class_folders(tmp_path / "images"), 8)
    packed = pack(tmp_path / "packed", {"train": folder})
    for source in (packed_source(packed), open_source(tmp_path / "packed", 8)):
        assert source.classes == folder.classes
        assert (source.size, len(source)) == (8, 12)
        for ours, theirs in zip(source.read(3, 99), folder.read(3, 99), strict=True):
            assert (ours.image_id, ours.name, ours.label) == (theirs.image_id, theirs.name, theirs.label)
            np.testing.assert_array_equal(ours.image, theirs.image)
    with pytest.raises(BadDataset, match="images of 8 pixels where the network's recipe stores 32"):
        open_source(tmp_path / "packed", 32)
    with pytest.raises(BadDataset, match="no split 'val'; it has train"):
        open_source(tmp_path / "packed", 8, "val")


def test_open_source_takes_the_train_folder_where_there_is_one(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", each=1)
    assert len(open_source(tmp_path, 8)) == 12
    assert len(open_source(tmp_path, 8, "val")) == 3


def test_shuffled_holds_the_same_images_in_a_fixed_order_that_mixes_classes(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path, each=30), 8)
    mixed = shuffled(source)
    assert sorted(p.name for p in mixed.images) == [p.name for p in source.images]
    assert [p.name for p in mixed.images] == [p.name for p in shuffled(mixed).images]
    labels = np.array([p.label for p in mixed.images])
    assert (np.diff(labels) != 0).sum() > 40  # 60 expected of 89, 2 when sorted by class


def test_an_images_side_of_the_split_depends_on_its_name_alone(tmp_path: Path) -> None:
    small = folder_splits(class_folders(tmp_path, each=20), 8, 0.3)
    held = {p.name for p in small["val"].images}
    assert 5 < len(held) < 30
    assert held.isdisjoint(p.name for p in small["train"].images)
    large = folder_splits(class_folders(tmp_path, each=40), 8, 0.3)
    assert held == {p.name for p in large["val"].images if int(p.name[-7:-4]) < 20}
    assert "val" not in folder_splits(tmp_path, 8, 0.0)
    with pytest.raises(BadDataset, match="at least 0 and below 1"):
        divided(small["train"], 1.0)


def test_a_folder_whose_images_are_all_held_out_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=2, each=1)
    with pytest.raises(BadDataset, match="too few images, all 2 are held out for validation"):
        folder_splits(tmp_path, 8, 0.9999)


def test_train_and_val_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", classes=2, each=1)
    splits = folder_splits(tmp_path, 8, 0.5)
    assert len(splits["train"]) == 12
    assert [(p.name, p.label) for p in splits["val"].images] == [("c0/000.png", 0), ("c1/000.png", 1)]
    assert splits["val"].classes == splits["train"].classes
    class_folders(tmp_path / "val", classes=4, each=1)
    with pytest.raises(BadDataset, match="classes that the training images do not have: c3"):
        folder_splits(tmp_path, 8, 0.5)


def test_without_a_validation_split_the_same_names_are_held_out_as_when_packing(tmp_path: Path) -> None:
    source = folder_source(class_folders(tmp_path / "images", each=20), 8)
    _, validate = training_and_validation(pack(tmp_path / "set", {"train": shuffled(source)}))
    assert isinstance(validate, Subset)
    names = PackedSet.open(tmp_path / "set").split("train").names
    held = {names[row] for row in validate.rows}
    for fraction in (0.02, 0.1):
        packed_so = {image.name for image in divided(source, fraction)[1].images}
        assert held <= packed_so or packed_so <= held
    assert len(held) == 3


def test_a_file_too_large_for_an_image_is_skipped_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_images, "MAX_BYTES", 20_000)
    class_folders(tmp_path, classes=1, each=2)
    with (tmp_path / "c0" / "000.png").open("r+b") as file:
        file.truncate(20_001)
    first, second = folder_source(tmp_path, 8).read(0, 2)
    assert (first.image, first.skipped) == (None, "20,001 bytes are no image's")
    assert second.skipped is None
