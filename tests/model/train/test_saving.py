"""When a save is due, and how one is written while training goes on: never two at once, no error lost."""

import threading
import time
from collections.abc import Callable

import pytest

from model.train.saving import BackgroundWriter, Every

SOON = 10.0  # seconds that no wait of these tests takes


def test_it_is_time_once_in_so_many_seconds() -> None:
    now = iter([100.0, 104.0, 105.0, 106.0, 112.0, 112.0])
    due = Every(5.0, lambda: next(now))
    assert [due() for _ in range(5)] == [False, True, False, True, False]


def test_zero_seconds_is_never() -> None:
    now = iter([0.0, 1.0, 2.0])
    due = Every(0.0, lambda: next(now))
    assert not due()
    assert not due()


def test_two_writes_are_never_in_hand_at_once() -> None:
    writing, seen = threading.Lock(), []

    def write() -> None:
        seen.append(writing.acquire(blocking=False))
        time.sleep(0.02)
        writing.release()

    with BackgroundWriter() as writer:
        for _ in range(5):
            writer.start(write)
    assert seen == [True] * 5


def test_the_caller_goes_on_while_a_write_is_in_hand() -> None:
    gone_on, seen = threading.Event(), []
    with BackgroundWriter() as writer:
        writer.start(lambda: seen.append(gone_on.wait(SOON)))
        gone_on.set()
    assert seen == [True]


def fail() -> None:
    raise OSError("the disk is full")


def test_an_error_is_raised_once_by_the_next_call_and_by_the_end() -> None:
    writer = BackgroundWriter()
    writer.start(fail)
    with pytest.raises(OSError, match="full"):
        writer.start(fail)
    writer.wait()
    with pytest.raises(OSError, match="full"), writer:
        writer.start(fail)


def write_and_raise(writer: BackgroundWriter, write: Callable[[], object], error: BaseException) -> None:
    with writer:
        writer.start(write)
        raise error


def test_an_error_of_the_block_is_not_replaced_and_waits_for_the_write() -> None:
    done = []

    def write() -> None:
        time.sleep(0.1)
        done.append(1)
        fail()

    with pytest.raises(ValueError, match="mine"):
        write_and_raise(BackgroundWriter(), write, ValueError("mine"))
    assert done == [1]


def test_an_interrupted_block_does_not_wait() -> None:
    released = threading.Event()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(BackgroundWriter(), lambda: released.wait(SOON), KeyboardInterrupt())
    assert time.monotonic() - begun < SOON / 2
    released.set()
