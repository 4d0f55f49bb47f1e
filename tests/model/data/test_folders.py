"""Any tree of folders as a collection: labels, names, and the parts of it that cannot be read."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.data.folders import folder_source
from model.data.packed import BadDataset
from tests.images import IMAGES
from tests.model.data.test_sources import class_folders


@contextlib.contextmanager
def as_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without root's right to read everything, in folder `place`."""
    if os.geteuid() != 0:
        yield
        return
    place.chmod(0o755)
    monkeypatch.chdir(place)  # the folders above are root's own
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(IMAGES["plain PNG"]())


def test_the_class_is_the_folder_at_the_top_and_outside_any_there_is_none(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=1, each=1)
    image(tmp_path / "stray.png")
    image(tmp_path / "c0" / "deep" / "two\nlines.png")
    image(Path(os.fsdecode(os.fsencode(tmp_path / "c0") + b"/\xff.png")))
    (tmp_path / "c0" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "c0" / "notes.txt").write_bytes(b"x")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "tax.pdf").write_bytes(b"x")
    source = folder_source(tmp_path, 8)
    items = source.read(0, 99)
    assert [(item.name, item.label) for item in items] == [
        ("c0/000.png", 0),
        ("c0/\\xff.png", 0),
        ("c0/deep/two\\nlines.png", 0),
        ("stray.png", -1),
    ]
    assert all(item.image is not None for item in items)
    assert source.classes == ("c0",)
    assert source.ignored == {".txt": 1, ".pdf": 1}


def test_a_folder_without_folders_has_images_without_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        image(tmp_path / name)
    source = folder_source(tmp_path, 8)
    assert source.classes == ()
    assert [(item.name, item.label) for item in source.read(0, 9)] == [("a.png", -1), ("b.png", -1)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "no images in it; accepted are JPEG"),
        (("a.txt", "b/c.txt", "d.heic"), r"no images in it; 3 other files ignored \(2 .txt, 1 .heic\); accepted are"),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(BadDataset, match=said):
        folder_source(tmp_path, 8)
    with pytest.raises(BadDataset, match="nowhere: not a folder; a folder of images is wanted"):
        folder_source(tmp_path / "nowhere", 8)


def test_what_may_not_be_read_is_said_and_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, classes=2, each=1)
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / "c1" / "locked").mkdir(mode=0)
    image(tmp_path / "c0" / "names only" / "1.png")
    (tmp_path / "c0" / "names only").chmod(0o444)
    image(tmp_path / "c0" / "secret.png")
    (tmp_path / "c0" / "secret.png").chmod(0)
    with as_nobody(tmp_path, monkeypatch):
        source = folder_source(Path(), 8)
        items, before = source.read(0, 99), source.identity(0, 99)
    assert source.classes == ("c0", "c1")
    assert [(item.name, item.label, item.skipped) for item in items] == [
        ("c0/000.png", 0, None),
        ("c0/secret.png", 0, "the file cannot be read: Permission denied"),
        ("c0/names only/1.png", 0, "the file cannot be read: Permission denied"),
        ("c1/000.png", 1, None),
        ("c1/locked", 1, "cannot be looked into: Permission denied"),
        ("lost+found", -1, "cannot be looked into: Permission denied"),
    ]
    (tmp_path / "c0" / "secret.png").chmod(0o444)
    with as_nobody(tmp_path, monkeypatch):
        assert source.identity(0, 99) != before


def test_a_tree_that_cannot_be_read_at_all_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with (
        as_nobody(tmp_path, monkeypatch),
        pytest.raises(BadDataset, match="no images in it; locked cannot be looked into: Permission denied"),
    ):
        folder_source(Path(), 8)
    monkeypatch.setattr(os, "scandir", _failing)
    with pytest.raises(BadDataset, match=r"no images in it; \. cannot be looked into: Input/output error"):
        folder_source(tmp_path, 8)


def _failing(place: str) -> Any:
    raise OSError(errno.EIO, "Input/output error", place)
