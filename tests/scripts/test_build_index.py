"""The batch job's three stages in one process: what was written stays, and no thread is left, however it ends."""

import errno
import os
import threading
from pathlib import Path

import pytest

from index import Bundle, DiskFull
from model import checkpoint
from model.embed import Embedder
from scripts.build_index import build
from tests.index.blocks import contents
from tests.model.test_checkpoint import made
from tests.model.test_collection import Collection

pytestmark = pytest.mark.timeout(60)


def nothing(_: str, __: int, ___: int) -> None: ...


@pytest.mark.parametrize("error", [DiskFull, KeyboardInterrupt])
def test_a_build_that_ends_early_keeps_its_blocks_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    embedder, source, file = Embedder(made(), "cpu"), Collection(1100, broken=(3, 600)), tmp_path / "checkpoint"
    checkpoint.save(file, made())
    expected = contents(build(embedder, source, Bundle(tmp_path / "unbroken"), file, nothing))
    written: list[int] = []

    def report(_: str, done: int, __: int) -> None:
        written.append(done)
        if done and error is KeyboardInterrupt:
            raise KeyboardInterrupt
        if done:
            monkeypatch.setattr(os, "fsync", full)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(error):
        build(embedder, source, Bundle(tmp_path / "bundle"), file, report)
    monkeypatch.undo()
    assert written == [0, 512]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]
    done: list[int] = []
    generation = build(embedder, source, Bundle(tmp_path / "bundle"), file, lambda _, now, __: done.append(now))
    assert done == [512, 1024, 1100]
    assert contents(generation) == expected
