"""A change that is killed, or runs out of disk, is made again later and gives the same bytes."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import BadBundle, Bundle, DiskFull, Generation
from index.database import attached
from index.work import Work
from tests.dice import dice
from tests.index.blocks import INPUTS, TOTAL, Run, begun, block, build, collection, contents
from tests.index.kills import CHANGES, prepare

ROOT = Path(__file__).parents[2]
FEW = 30  # images
KILLS = 20  # of each change
OLDER = Run({**INPUTS, "weights": "an older network"})


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
    (os, "link"),
    (shutil, "rmtree"),
    (shutil, "copyfile"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (Path, "write_bytes"),
    (Work, "record"),
    (Work, "create"),
]


def made(what: str, bundle: Path, checkpoint: Path) -> Generation:
    """Make a change, and return what is current then."""
    CHANGES[what](bundle, checkpoint)
    return Bundle(bundle).current(verify=True)


@pytest.fixture
def before(tmp_path: Path, checkpoint: Path) -> Path:
    """The bundle that is changed."""
    prepare(tmp_path / "before", checkpoint)
    return tmp_path / "before"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["build", "add", "compact"])  # a removal's steps are among those of compact
def test_a_kill_between_any_two_steps(
    tmp_path: Path, checkpoint: Path, before: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed: the machine goes on
    shutil.copytree(before, tmp_path / "unbroken")
    expected = contents(made(what, tmp_path / "unbroken", checkpoint))
    steps, burnt = 0, True
    while burnt:
        bundle = tmp_path / f"killed-{steps}"
        shutil.copytree(before, bundle)
        fuse = Fuse(steps, Killed())
        with monkeypatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, fuse.guard(getattr(owner, name)))
            try:
                CHANGES[what](bundle, checkpoint)
            except Killed:
                assert Bundle(bundle).current(verify=True).number in (2, 3)
        generation = made(what, bundle, checkpoint)
        assert (generation.number, contents(generation)) == (3, expected)
        steps, burnt = steps + 1, fuse.burnt
        shutil.rmtree(bundle)
        assert steps < 500
    assert steps > 40


@pytest.fixture
def process() -> Iterator[Callable[..., list[int]]]:
    """What makes changes in processes that are ended on the way, and tells their exit status and number of calls."""
    command = [sys.executable, "-m", "tests.index.kills"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        lines, answers = running.stdin, running.stdout

        def change(what: str, bundle: Path, checkpoint: Path, calls: int = 0, seconds: float = 0.0) -> list[int]:
            lines.write(f"{what} {bundle} {checkpoint} {calls} {seconds:.6f}\n")
            lines.flush()
            return [int(word) for word in answers.readline().split()]

        yield change
        lines.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_at_random_moments(
    tmp_path: Path, checkpoint: Path, before: Path, process: Callable[..., list[int]]
) -> None:
    """The kernel kills it, also in the middle of a system call."""
    rng = dice()
    for what in CHANGES:
        expected = contents(made(what, shutil.copytree(before, tmp_path / f"{what}-unbroken"), checkpoint))
        status, calls = process(what, shutil.copytree(before, tmp_path / f"{what}-counted"), checkpoint)
        assert status == 0
        kills, bundle = 0, shutil.copytree(before, tmp_path / f"{what}-0")
        for attempt in range(10 * KILLS):
            status, *_ = process(what, bundle, checkpoint, rng.randint(1, calls), rng.uniform(1e-6, 5e-3))
            assert status in (0, -signal.SIGALRM)
            kills += status != 0
            generation = Bundle(bundle).current(verify=True)
            assert generation.number == 3 or status
            if kills == KILLS or not status:
                generation = made(what, bundle, checkpoint)
                assert (generation.number, contents(generation)) == (3, expected)
                bundle = shutil.copytree(before, tmp_path / f"{what}-{attempt + 1}")
            generation.close()
            if kills == KILLS:
                break
        assert kills == KILLS


@pytest.mark.slow
@pytest.mark.parametrize("what", ["add", "compact"])
def test_a_full_disk_at_any_step_is_told_and_the_change_goes_on(
    tmp_path: Path, checkpoint: Path, before: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    expected = contents(made(what, shutil.copytree(before, tmp_path / "unbroken"), checkpoint))
    steps, burnt = 0, True
    while burnt:
        bundle, told = shutil.copytree(before, tmp_path / f"full-{steps}"), ""
        code = (errno.ENOSPC, errno.EDQUOT)[steps % 2]
        fuse = Fuse(steps, OSError(code, os.strerror(code)))
        with monkeypatch.context() as patch:
            for owner, name in STEPS[:-2]:
                patch.setattr(owner, name, fuse.guard(getattr(owner, name)))
            try:
                CHANGES[what](bundle, checkpoint)
            except DiskFull as error:
                told = str(error)
        burnt = fuse.burnt
        assert (
            told.endswith("no space left on the disk; make room and run it again: what was finished is kept") == burnt
        )
        assert Bundle(bundle).current(verify=True).number in (2, 3)
        assert contents(made(what, bundle, checkpoint)) == expected
        steps += 1
        shutil.rmtree(bundle)
        assert steps < 500
    assert steps > 40


@pytest.mark.parametrize("module", ["catalogue_writer", "segment_writer"])
def test_a_database_that_may_not_grow_at_publishing_is_a_full_disk(
    path: Path, checkpoint: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(path, checkpoint, collection(10)) as building:
        building.append(block(0, 10))
        with monkeypatch.context() as patch:
            patch.setattr(f"index.{module}.attached", small)
            with pytest.raises(DiskFull):
                building.publish()
        building.publish().verify()


@contextmanager
def small(connection: sqlite3.Connection, name: str, path: Path | None, *, new: bool = False) -> Iterator[None]:
    """Attach a database that may not grow beyond a page."""
    with attached(connection, name, path, new=new):
        if new:
            connection.execute(f"PRAGMA {name}.max_page_count = 1")
        yield


def test_the_same_building_goes_on_once_there_is_room(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(tmp_path / "bundle", checkpoint, collection(20)) as building:
        building.append(block(0, 10))
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", Fuse(0, OSError(errno.ENOSPC, "full")).guard(os.fsync))
                with pytest.raises(DiskFull):
                    building.append(block(10, 20))
        building.append(block(10, 20))
        generation = building.publish()
    np.testing.assert_array_equal(generation.rows(block(10, 20).ids), block(10, 20).features)


def test_a_catalogue_that_may_not_grow_is_a_full_disk(tmp_path: Path, checkpoint: Path) -> None:
    with begun(tmp_path / "bundle", checkpoint) as building:
        pages = building._record.connection.execute("PRAGMA page_count").fetchone()[0]
        building._record.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFull):
            building.append(block(0, TOTAL))
        assert building.done == 0


def test_other_trouble_with_the_disk_is_told_as_it_is(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Fuse(30, OSError(errno.EIO, "Input/output error")).guard(os.fsync))
    with pytest.raises(BadBundle, match="Input/output error"):
        build(tmp_path / "bundle", checkpoint)
    monkeypatch.setattr(Work, "record", Fuse(0, sqlite3.OperationalError("disk I/O error")).guard(id))
    with pytest.raises(BadBundle, match="disk I/O error"):
        build(tmp_path / "another", checkpoint)


def test_a_read_only_disk_is_told_and_what_is_there_can_be_read(
    checkpoint: Path, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", read_only)
    bundle = Bundle(before)
    changes = (lambda: build(before, checkpoint), lambda: bundle.remove([1]), bundle.roll_back, bundle.prune)
    for change in changes:
        with pytest.raises(BadBundle, match="lock: cannot be written: Read-only file system$"):
            change()
    assert bundle.current(verify=True).number == 2
