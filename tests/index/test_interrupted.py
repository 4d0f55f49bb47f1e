"""A build that is killed, or runs out of disk, continues later and gives the same bytes."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import BadBundle, Bundle, DiskFull
from index.catalogue_writer import CatalogueWriter
from tests.dice import dice
from tests.index.blocks import INPUTS, TOTAL, begun, block, build, contents, identity

ROOT = Path(__file__).parents[2]
FEW = 30  # images


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(bytes(range(256)) * 100)
    return path


class Killed(BaseException):
    """Stands for the end of the process: the code under test does not catch it."""


class Fuse:
    """Lets `left` steps pass, then raises `error` once."""

    def __init__(self, left: int, error: BaseException) -> None:
        self.left, self.error, self.burnt = left, error, False

    def guard(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0 and not self.burnt:
                self.burnt = True
                raise self.error
            return step(*args, **kwargs)

        return guarded


STEPS: list[tuple[Any, str]] = [
    (os, "fsync"),
    (shutil, "rmtree"),
    (shutil, "copyfile"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (CatalogueWriter, "record"),
    (CatalogueWriter, "write_to"),
    (CatalogueWriter, "create"),
]


@pytest.mark.slow
def test_a_kill_between_any_two_steps(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {**INPUTS, "weights": "an older network"}
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed: the machine goes on
    build(tmp_path / "before", checkpoint, before, FEW)
    shutil.copytree(tmp_path / "before", tmp_path / "unbroken")
    expected = contents(build(tmp_path / "unbroken", checkpoint, total=FEW))
    steps, burnt = 0, True
    while burnt:
        bundle = tmp_path / f"killed-{steps}"
        shutil.copytree(tmp_path / "before", bundle)
        fuse = Fuse(steps, Killed())
        with monkeypatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, fuse.guard(getattr(owner, name)))
            try:
                build(bundle, checkpoint, total=FEW)
            except Killed:
                assert Bundle(bundle).current(verify=True).number in (1, 2)
        if not Bundle(bundle).holds(INPUTS, FEW, identity):
            assert build(bundle, checkpoint, total=FEW).number == 2
        assert contents(Bundle(bundle).current(verify=True)) == expected
        assert sorted(p.name for p in (bundle / "generations").iterdir()) == ["0001", "0002"]
        steps, burnt = steps + 1, fuse.burnt
        assert steps < 500
    assert steps > 40


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, checkpoint: Path) -> None:
    """The kernel kills it, also in the middle of a system call."""
    expected = contents(build(tmp_path / "unbroken", checkpoint))
    rng, kills, bundle = dice(), 0, tmp_path / "killed"
    command = [sys.executable, "-m", "tests.index.blocks", str(bundle), str(checkpoint)]
    longest = 500  # calls it may make
    for _ in range(40):
        moment = [str(rng.randrange(1, longest)), f"{rng.uniform(1e-6, 5e-3):.6f}"]
        ended = subprocess.run([*command, *moment], cwd=ROOT, timeout=60, check=False).returncode
        if ended == 0:
            break
        assert ended == -signal.SIGALRM
        kills, longest = kills + 1, longest * 3 // 2
    assert kills > 3
    assert contents(Bundle(bundle).current(verify=True)) == expected


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_the_build_goes_on(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    expected = contents(build(tmp_path / "unbroken", checkpoint, total=FEW))
    bundle = tmp_path / "bundle"
    build(bundle, checkpoint, {**INPUTS, "weights": "an older network"}, FEW)
    for steps in range(0, 18, 2):
        fuse = Fuse(steps, OSError(code, os.strerror(code)))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fuse.guard(os.fsync))
            with pytest.raises(DiskFull, match="no space left on the disk; make room and run it again"):
                build(bundle, checkpoint, total=FEW)
        assert Bundle(bundle).current(verify=True).number == 1
        if steps < 16:  # start over
            shutil.rmtree(bundle / "building")
    assert contents(build(bundle, checkpoint, total=FEW)) == expected


def test_the_same_building_goes_on_once_there_is_room(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(tmp_path / "bundle", checkpoint, total=20) as building:
        building.append(block(0, 10))
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", Fuse(0, OSError(errno.ENOSPC, "full")).guard(os.fsync))
                with pytest.raises(DiskFull):
                    building.append(block(10, 20))
        building.append(block(10, 20))
        generation = building.publish()
    np.testing.assert_array_equal(generation.features[-len(block(10, 20).ids) :], block(10, 20).features)


def test_a_catalogue_that_may_not_grow_is_a_full_disk(tmp_path: Path, checkpoint: Path) -> None:
    with begun(tmp_path / "bundle", checkpoint) as building:
        pages = building._catalogue._connection.execute("PRAGMA page_count").fetchone()[0]
        building._catalogue._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFull):
            building.append(block(0, TOTAL))
        assert building.done == 0


def test_other_trouble_with_the_disk_is_told_as_it_is(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Fuse(30, OSError(errno.EIO, "Input/output error")).guard(os.fsync))
    with pytest.raises(BadBundle, match="Input/output error"):
        build(tmp_path / "bundle", checkpoint)
    monkeypatch.setattr(CatalogueWriter, "record", Fuse(0, sqlite3.OperationalError("disk I/O error")).guard(id))
    with pytest.raises(BadBundle, match="disk I/O error"):
        build(tmp_path / "another", checkpoint)
