"""Rows of a large file are asked for before they are read, and of a small one they are not."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from index import pages


class Asked(mmap.mmap):
    """A mapping that remembers what was asked for."""

    asked: list[tuple[int, int]]

    def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
        assert option == mmap.MADV_WILLNEED
        super().madvise(option, start, length)  # raises for an address that is not a page's
        self.asked.append((start, length))


def mapped(path: Path, rows: int, d: int) -> tuple[np.memmap[tuple[int, int], np.dtype[np.float32]], Asked]:
    np.save(path, np.arange(rows * d, dtype=np.float32).reshape(rows, d))
    features = np.load(path, mmap_mode="r")
    with path.open("rb") as file:
        memory = Asked(file.fileno(), 0, prot=mmap.PROT_READ)
    memory.asked = []
    again = np.ndarray.__new__(np.memmap, features.shape, features.dtype, memory, features.offset)
    vars(again).update(_mmap=memory, offset=features.offset, mode="r")
    return again, memory


@pytest.mark.parametrize("d", [1024, 1000, 4096])
def test_every_byte_of_the_rows_is_asked_for(d: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LARGE", 1)
    features, memory = mapped(tmp_path / "features.npy", 50, d)
    rows = np.array([49, 0, 17])
    pages.ask_for(features, rows)
    for row, (start, length) in zip(rows.tolist(), memory.asked, strict=True):
        first = features.offset + 4 * d * row
        assert start % mmap.PAGESIZE == 0
        assert first - mmap.PAGESIZE < start <= first
        assert start + length == first + 4 * d


def test_a_small_file_and_rows_in_memory_are_not(tmp_path: Path) -> None:
    features, memory = mapped(tmp_path / "features.npy", 50, 64)
    pages.ask_for(features, np.arange(3))
    pages.ask_for(np.zeros((3, 4), np.float32), np.arange(3))
    assert memory.asked == []
