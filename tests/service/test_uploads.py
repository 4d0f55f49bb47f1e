"""Originals that were sent are files called by their bytes, and rows of a list that build_index.py reads."""

from pathlib import Path

import pytest

from model.data.folders import open_source
from service.uploads import LONGEST, Upload, Uploads
from tests.images import encoded, photograph

IMAGES = [encoded(photograph(seed=seed)) for seed in range(3)]


def test_they_are_a_source_with_names_and_labels(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.add([Upload(IMAGES[0], "frog.png", "a frog, green"), Upload(IMAGES[1])])
    uploads.add([Upload(IMAGES[2], "frog.png", "newt")])
    source = open_source(uploads.list, 32)
    digests = [Upload(data).content[:12] for data in IMAGES]
    names = [f"{digests[0]}/frog.png", digests[1], f"{digests[2]}/frog.png"]
    assert [(name, label) for name, label, _ in source.entries()] == [(names[0], 0), (names[1], -1), (names[2], 1)]
    assert source.classes == ("a frog, green", "newt")
    assert [item.skipped for item in source.read(0, 3)] == [None] * 3
    uploads.add([Upload(IMAGES[0], "again")])
    assert [row[2] for row in uploads.rows()] == [names[1], names[2], f"{digests[0]}/again"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a\0b", 'line\nbreak,"quoted"', "x" * 5000, "=cmd()", "\ud800"]
)
def test_no_name_leaves_the_folder_or_breaks_the_list(tmp_path: Path, name: str) -> None:
    uploads = Uploads(tmp_path)
    uploads.add([Upload(IMAGES[0], name), Upload(IMAGES[1], name)])
    assert {path.name for path in (tmp_path / "uploads").iterdir()} == {
        "images.csv",
        Upload(IMAGES[0]).content,
        Upload(IMAGES[1]).content,
    }
    source = open_source(uploads.list, 32)
    assert [item.skipped for item in source.read(0, 2)] == [None] * 2
    assert all(len(found) <= LONGEST + 13 for found, _, _ in source.entries())


def test_what_is_dropped_leaves_no_file_and_the_last_no_list(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    uploads.add([Upload(IMAGES[0]), Upload(IMAGES[1])])
    uploads.drop([Upload(IMAGES[0]).content])
    assert [row[0] for row in uploads.rows()] == [Upload(IMAGES[1]).content]
    uploads.drop([Upload(IMAGES[1]).content])
    assert list((tmp_path / "uploads").iterdir()) == []
    uploads.drop([Upload(IMAGES[2]).content])
