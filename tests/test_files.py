"""A replaced file is the whole old one or the whole new one, a lock has one holder, and a full disk has its message."""

import ast
import contextlib
import errno
import io
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import files
from tests.limits import files_of_at_most


class Cannot(Exception):
    pass


class Full(Exception):
    pass


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each fsync by what it reached, and each rename, in order."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noting_replace(path: Path, target: Path) -> Path:
        events.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return events


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    events = traced(monkeypatch)
    files.replace(folder / "a", b"new")
    assert events == ["sync a.part", "rename to a", "sync folder"]
    assert (folder / "a").read_bytes() == b"new"


def test_an_error_within_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    files.replace(tmp_path / "a", b"old")
    with contextlib.suppress(ZeroDivisionError), files.replacing(tmp_path / "a") as file:
        file.write(b"ne")
        raise ZeroDivisionError
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_second_name_outlives_the_first_also_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    if refusal is not None:

        def refused(*_: object) -> None:
            raise OSError(refusal, os.strerror(refusal))

        monkeypatch.setattr(os, "link", refused)
    (tmp_path / "first").write_bytes(b"network")
    (tmp_path / "second").write_bytes(b"older")
    events = traced(monkeypatch)
    files.link(tmp_path / "first", tmp_path / "second")
    files.link(tmp_path / "first", tmp_path / "second")  # again: nothing is left over
    assert events[-1] == f"sync {tmp_path.name}"
    assert ("sync second.part" in events) == (refusal is not None)
    (tmp_path / "first").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"second": b"network"}


def test_a_copy_that_does_not_fit_leaves_nothing_and_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    def full(_: Path, copy: Path) -> None:
        copy.write_bytes(b"netw")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "copyfile", full)
    (tmp_path / "first").write_bytes(b"network")
    (tmp_path / "second").write_bytes(b"older")
    with pytest.raises(OSError, match="full"):
        files.link(tmp_path / "first", tmp_path / "second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"first": b"network", "second": b"older"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync, unable = os.fsync, set[str]()

    def partly(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name in unable:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", partly)
    unable.add(tmp_path.name)
    with contextlib.nullcontext() if number == errno.EINVAL else pytest.raises(OSError, match="Input/output"):
        files.replace(tmp_path / "a", b"new")
    (tmp_path / "b").touch()
    unable.add("b")
    with pytest.raises(OSError, match=os.strerror(number)):
        files.sync(tmp_path / "b")


def test_a_full_disk_is_no_reason_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", full)
    (tmp_path / "first").write_bytes(b"network")
    with pytest.raises(OSError, match="full"):
        files.link(tmp_path / "first", tmp_path / "second")


@given(
    st.sampled_from(["<f4", "<i8", "|u1"]), st.integers(0, 2**40), st.lists(st.integers(1, 4096), max_size=3).map(tuple)
)
def test_a_header_is_numpys_own_and_always_as_long(dtype: str, rows: int, row: tuple[int, ...]) -> None:
    shape = (rows, *row)
    header = files.npy_header(dtype, shape)
    assert len(header) == files.NPY_HEADER
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype(dtype))


def test_a_shape_that_does_not_fit_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 256 bytes"):
        files.npy_header("<f4", (10**9,) * 10)


class Sparing(io.RawIOBase):
    """Takes at most three bytes at a time, as an unbuffered file may near the end of a disk."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:3])
        return min(3, len(data))


@pytest.mark.parametrize("data", [b"", b"0123456789", np.arange(5.0).data, np.zeros((0, 4)).data])
def test_everything_is_written_however_little_a_file_takes(data: bytes | memoryview) -> None:
    file = Sparing()
    files.write_all(file, data)  # type: ignore[arg-type]
    assert file.taken == bytes(data)


ARRAYS = [np.arange(5), np.zeros(0, np.int64), np.ones((3, 4), np.float32), np.asfortranarray(np.eye(3)[:2])]


@pytest.mark.parametrize("array", ARRAYS)
def test_an_array_is_written_as_numpy_would(array: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", np.ascontiguousarray(array))
    files.replace_array(tmp_path / "ours.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


@pytest.mark.parametrize("lacking", [1, 4000, 100_000])
def test_an_array_that_finds_no_room_is_an_error_and_leaves_the_old_one(lacking: int, tmp_path: Path) -> None:
    """np.save writes the last bytes when it closes its file, and does not look whether they were written."""
    file, array = tmp_path / "array.npy", np.arange(20_000.0)
    files.replace_array(file, array)
    before = file.read_bytes()
    with files_of_at_most(len(before) - lacking), pytest.raises(OSError, match="File too large") as refusal:
        files.replace_array(file, array)
    assert refusal.value.errno == errno.EFBIG
    assert file.read_bytes() == before


def test_a_lock_holds_against_another_process_and_ends_with_it(tmp_path: Path) -> None:
    holds = (
        "import files, sys, pathlib; f = files.locked(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(files.__file__).parent,
    ) as holder:
        assert holder.stdout is not None
        assert select.select([holder.stdout], [], [], 60)[0], "the other process does not lock"
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(files.AlreadyLocked, match="lock"):
            files.locked(tmp_path / "lock")
        holder.kill()
    with files.locked(tmp_path / "lock"):
        pass


def failing(error: OSError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(number: int, tmp_path: Path) -> None:
    with pytest.raises(Full, match=r"no space left on the disk; make room"), files.translated(tmp_path, Cannot, Full):
        failing(OSError(number, "whatever"))()


def test_any_other_error_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(Cannot, match=r"/somewhere: cannot be written: Permission denied") as refusal,
        files.translated(tmp_path, Cannot, Full),
    ):
        failing(PermissionError(errno.EACCES, "Permission denied", "/somewhere"))()
    assert isinstance(refusal.value.__cause__, PermissionError)


def test_it_stands_below_everything_else() -> None:
    """import-linter reads packages only, so this test keeps files.py below `model` and `index`."""
    tree = ast.parse(Path(files.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {"model", "index", "service", "scripts"}
    assert imported
    assert not {name for name in imported if name.split(".")[0] in ours}
