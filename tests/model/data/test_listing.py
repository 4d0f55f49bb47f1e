"""Which files of a tree are images; what is left out, and what is said of it."""

import os
import socket
import sys
import traceback
from pathlib import Path

import pytest

from model.data import listing
from model.data.listing import SPECIAL, counted, list_images


def tree(root: Path, *files: str) -> Path:
    """Empty files."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def listed(root: Path) -> list[str]:
    found = list_images(root).folders
    return ["/".join((*place, name)) for place, names in found.items() for name in names]


def test_images_are_known_by_their_suffix_or_by_having_none(tmp_path: Path) -> None:
    tree(tmp_path, "b/2.JPEG", "b/1.jpg", "b/c/3.webp", "a-b/4.png", "a/5", "6.tif", "a/.7.jpg", ".git/8.jpg")
    tree(tmp_path, "a/x.txt", "x.TXT", "b/x.heic", "b/x.jpg.part", "b/x.eps")
    found = list_images(tmp_path)
    assert listed(tmp_path) == ["6.tif", "a/5", "a-b/4.png", "b/1.jpg", "b/2.JPEG", "b/c/3.webp"]
    assert found.ignored == {".txt": 2, ".heic": 1, ".part": 1, ".eps": 1}
    assert found.unreadable == {}


def test_other_files_are_counted_in_one_line() -> None:
    assert counted({".txt": 1200, ".pdf": 2}) == "1,202 other files ignored (1,200 .txt, 2 .pdf)"
    assert counted({".a": 1, ".b": 2, ".c": 3, ".d": 4}) == "10 other files ignored (4 .d, 3 .c, 2 .b, ...)"
    assert counted({".p\udcff": 1, ".a\nb": 1}) == r"2 other files ignored (1 .p\xff, 1 .a\nb)"


def test_links_are_followed_and_each_folder_counts_once_under_its_own_path(tmp_path: Path) -> None:
    tree(tmp_path / "outside", "1.png", "deep/2.png")
    root = tree(tmp_path / "root", "cats/3.png", "cats/4.png")
    (root / "all").symlink_to(root / "cats")  # sorts before the folder itself
    (root / "cats" / "up").symlink_to(root)
    (root / "y").symlink_to(tmp_path / "outside")
    (root / "x").symlink_to(tmp_path / "outside" / "deep")
    (tmp_path / "outside" / "back").symlink_to(root / "y")
    assert listed(root) == ["cats/3.png", "cats/4.png", "x/2.png", "y/1.png"]
    (tmp_path / "entry").symlink_to(root)
    assert listed(tmp_path / "entry") == listed(root)


def test_two_paths_to_one_file_are_two_images(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png")
    (tmp_path / "a" / "2.png").hardlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "3.png").symlink_to(tmp_path / "a" / "1.png")
    assert listed(tmp_path) == ["a/1.png", "a/2.png", "a/3.png"]


def test_what_is_no_file_is_counted_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "1.png")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    Path("itself.png").symlink_to("itself.png")
    Path("gone.png").symlink_to("nowhere")
    Path("null.png").symlink_to("/dev/null")
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        found = list_images(tmp_path)
    assert found.folders == {(): ["1.png"]}
    assert found.ignored == {SPECIAL: 5}
    assert counted(found.ignored) == "5 other files ignored (5 not a file)"


def test_a_tree_deeper_than_the_stack(tmp_path: Path) -> None:
    depth, limit = 300, sys.getrecursionlimit()
    place = tmp_path.joinpath(*["d"] * depth)
    tree(place, "1.png")
    try:
        sys.setrecursionlimit(sum(1 for _ in traceback.walk_stack(None)) + 100)
        found = list_images(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found.folders == {("d",) * depth: ["1.png"]}


def test_a_folder_deeper_than_a_path_can_be_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "1.png")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # of 250 characters each, where a path has 4,096 at most
        os.mkdir("d" * 250, dir_fd=here)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    found = list_images(tmp_path)
    assert found.folders == {(): ["1.png"]}
    assert list(found.unreadable.values()) == ["File name too long"]


def test_a_long_listing_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"{folder}/{file}.png" for folder in range(4) for file in range(3)))
    told: list[tuple[str, int, int]] = []
    list_images(tmp_path, lambda *at: told.append(at))
    assert told == []
    monkeypatch.setattr(listing, "MOMENT", 0.0)
    list_images(tmp_path, lambda *at: told.append(at))
    assert told == [("list", 3, 0), ("list", 6, 0), ("list", 9, 0), ("list", 12, 0), ("list", 12, 12)]
