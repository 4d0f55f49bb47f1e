"""An index is written whole or not at all, and one that cannot be read is told by its file."""

import errno
from pathlib import Path

import faiss
import numpy as np
import pytest

from index import BadBundle
from index.stored import mapped_index, write_index
from tests.limits import files_of_at_most

ROWS = np.random.default_rng(0).standard_normal((1024, 32), dtype=np.float32)


def filled() -> faiss.Index:
    index = faiss.IndexFlatL2(32)
    index.add(ROWS)
    return index


@pytest.mark.parametrize("lacking", [1, 4096, 100_000])
def test_an_index_that_finds_no_room_is_an_error_and_leaves_the_old_one(lacking: int, tmp_path: Path) -> None:
    """A page at the end is in a buffer until the file is closed; FAISS alone would not tell that it was lost."""
    file = tmp_path / "index.faiss"
    write_index(file, filled())
    before = file.read_bytes()
    with files_of_at_most(len(before) - lacking), pytest.raises(OSError, match="File too large") as refusal:
        write_index(file, filled())
    assert refusal.value.errno == errno.EFBIG
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_an_index_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    write_index(tmp_path / "index.faiss", filled())
    index = mapped_index(tmp_path / "index.faiss")
    (tmp_path / "index.faiss").unlink()
    np.testing.assert_array_equal(index.reconstruct_n(0, 1024), ROWS)


@pytest.mark.parametrize("damage", [b"", b"IxF2", b"\xff" * 1000])
def test_a_file_that_is_no_index_is_told(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(damage)
    with pytest.raises(BadBundle, match=r"index\.faiss: cannot be read: not an index of FAISS, or not a whole one$"):
        mapped_index(tmp_path / "index.faiss")
