"""A list of images as a collection."""

import hashlib
import os
from pathlib import Path

import pytest

from model.data.encoded import EncodedSource
from model.data.folders import encoded_source, open_source
from model.data.labels import LONGEST
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.splits import folder_splits
from tests.images import encoded, photograph


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder that holds a list's folder and, beside it, photographs 0.png to 5.png."""
    (tmp_path / "lists").mkdir()
    for seed in range(6):
        (tmp_path / f"{seed}.png").write_bytes(encoded(photograph(30, 40, seed=seed)))
    return tmp_path


def opened(photos: Path, *lines: str) -> EncodedSource:
    (photos / "lists" / "a.CSV").write_text("\n".join(lines))
    source = open_source(photos / "lists" / "a.CSV", 8)
    assert isinstance(source, EncodedSource)
    return source


def test_rows_are_images_in_the_lists_order(photos: Path) -> None:
    absolute = photos / "3.png"
    source = opened(photos, "path,label,id", "../2.png,10,b", f"{absolute},9,", "../0.png,,a\u0085b", "../1.png,frog,")
    assert source.classes == ("9", "10", "frog")
    items = source.read(0, 9, known=())
    assert [(item.name, item.label) for item in items] == [
        ("b", 1),
        (str(absolute), 0),
        ("a\\u0085b", -1),
        ("../1.png", 2),
    ]
    contents = [hashlib.sha256((photos / f"{n}.png").read_bytes()).hexdigest() for n in (2, 3, 0, 1)]
    assert [item.content for item in items] == contents


def test_a_missing_file_is_an_item_without_an_image(photos: Path) -> None:
    source = opened(photos, "path,id", "../0.png,1", "nowhere.png,2", "a\0b.png,3", "..,4", f"{'x' * 300}.png,5")
    assert [item.skipped for item in source.read(0, 9, known=())] == [
        None,
        "the file cannot be read: No such file or directory",
        "a path with a character that is in no path",
        "not an ordinary file",
        "the file cannot be read: File name too long",
    ]


def test_a_state_is_the_files(photos: Path) -> None:
    source = opened(photos, "path", "../0.png", "../1.png")
    before = list(source.entries())
    os.utime(photos / "1.png", ns=(0, 5))
    assert [one == other for one, other in zip(before, source.entries(), strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("path,id", "../0.png,x", "../1.png,y", "../2.png,x"), "a.CSV: lines 2 and 4 have the same id, x"),
        (("path", "../0.png", "../0.png"), "a.CSV: lines 2 and 3 have the same path, ../0.png"),
        (("path,id", "../0.png,", "../1.png,../0.png"), "a.CSV: lines 2 and 3 have the same id, ../0.png"),
        (("path,label", ",frog"), "a.CSV, line 2: no path"),
        (("path,label", f"../0.png,{'x' * (LONGEST + 1)}"), "a.CSV, line 2: no class name: at most 200 printable"),
        (("path,label", "../0.png,a\x1bb"), "a.CSV, line 2: no class name: at most 200 printable"),
        (("path,label",), "a.CSV: a list without images"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(photos: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadDataset) as caught:
        opened(photos, *lines)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_lists_can_be_packed_and_only_known_classes_validate(photos: Path) -> None:
    opened(photos, "path,label", *(f"../{n}.png,{n % 2}" for n in range(6)))
    file = photos / "lists" / "a.CSV"
    packed = pack(photos / "packed", folder_splits(file, 8, 0.0))
    assert (packed.classes, len(packed.split("train"))) == (("0", "1"), 6)
    with pytest.raises(BadDataset, match="classes that the training images do not have: 1"):
        encoded_source(file, 8, ("0",))


def test_other_files_are_refused(photos: Path) -> None:
    with pytest.raises(BadDataset, match=r"0\.png: not a folder; .* or a list \(\.csv, \.parquet\), or a \.tar"):
        open_source(photos / "0.png", 8)
