"""Work in threads: in order, no more of them than cores, one item ahead and no more."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
import pytest

from model.data.packing import pack
from model.data.threads import ahead, on_all_cores
from tests.model.data.test_packed import source
from tests.waiting import wait_until


def test_results_are_in_order_and_the_first_error_is_raised() -> None:
    assert on_all_cores(lambda item: -item, range(100)) == [-item for item in range(100)]
    assert on_all_cores(str, []) == []
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda item: 1 // item, [1, 0, 2])


def test_many_batches_of_jpegs_need_no_more_threads_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def noting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    split = pack(tmp_path / "set", {"train": source(40)}, encoding="jpeg").split("train")
    monkeypatch.setattr(threading.Thread, "start", noting)
    cores = os.cpu_count() or 1
    for row in range(2 * cores):
        split.images(np.array([row % 40, 0, 1]))
    assert len(started) <= cores


FORKED = """
import os, signal
from model.data.threads import on_all_cores
assert on_all_cores(len, ["a"] * 50) == [1] * 50
child = os.fork()
if not child:
    signal.alarm(30)  # a pool without threads would wait for ever
    os._exit(0 if on_all_cores(len, ["ab"] * 50) == [2] * 50 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_forked_process_has_threads_of_its_own() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_next_item_is_made_while_the_caller_works_and_no_other() -> None:
    begun: list[int] = []

    def items() -> Generator[int, None, None]:
        for number in range(5):
            begun.append(number)
            yield number

    results = ahead(items())
    for number in range(4):
        assert next(results) == number
        wait_until(lambda number=number: len(begun) >= number + 2)  # type: ignore[misc]
        assert begun == list(range(number + 2))
    assert list(results) == [4]
    assert list(ahead(number for number in range(0))) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    results = ahead(1 // item for item in (1, 1, 0, 1))
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_stages_end_when_the_caller_stops() -> None:
    closed: list[str] = []

    def stage(name: str, items: Iterable[int]) -> Generator[int, None, None]:
        try:
            yield from items
        finally:
            closed.append(name)

    first = ahead(stage("first", range(100)))
    second = stage("second", first)
    results = ahead(second)
    assert next(results) == 0
    results.close()
    assert closed == ["first", "second"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_second_ctrl_c_does_not_wait_for_the_item_in_the_making() -> None:
    go_on, interrupts = threading.Event(), list[int]()

    def items() -> Generator[int, None, None]:
        yield 0
        go_on.wait(30)

    def interrupted(signum: int, _: object) -> None:
        interrupts.append(signum)
        raise KeyboardInterrupt

    def twice() -> None:
        for count in (1, 2):
            time.sleep(0.05)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            wait_until(lambda count=count: len(interrupts) == count)  # type: ignore[misc]

    results, before, sender = ahead(items()), signal.signal(signal.SIGINT, interrupted), threading.Thread(target=twice)
    try:
        assert next(results) == 0
        sender.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert time.monotonic() - begun < 20
    finally:
        go_on.set()
        sender.join()
        signal.signal(signal.SIGINT, before)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")])
