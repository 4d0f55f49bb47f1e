"""A generation that requests hold stays open; a replaced one is closed when the last lets it go."""

import threading
from typing import Any

from service.lease import Lease, Served
from tests.waiting import SECONDS, wait_until


class Files:
    """In place of an engine and of its verification: knows whether it is closed."""

    def __init__(self, may_close: threading.Event | None = None) -> None:
        self.closed = self.stopped = False
        self._may_close = may_close

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        if self._may_close:
            assert self._may_close.wait(SECONDS)
        self.closed = True


def served(may_close: threading.Event | None = None) -> Any:
    files: list[Any] = [Files(may_close), Files(), None]
    return Served(*files)


def closed(one: Any) -> bool:
    return bool(one.engine.closed and one.verification.closed)


def test_one_that_nobody_holds_is_closed_when_it_is_replaced() -> None:
    told: list[int] = []
    first, second = served(), served()
    lease = Lease(first, told.append)
    lease.swap(second)
    wait_until(lambda: closed(first) and told[-1] == 1)
    assert lease.current is second
    assert told == [1, 2, 1]
    assert not closed(second)


def test_a_replaced_one_is_closed_when_its_last_holder_lets_go() -> None:
    first, second = served(), served()
    lease = Lease(first)
    one, other = lease.hold(), lease.hold()
    assert (one.__enter__(), other.__enter__()) == (first, first)
    lease.swap(second)
    assert (first.verification.stopped, second.verification.stopped) == (True, False)  # else both read the disk
    with lease.hold() as held:
        assert held is second
    one.__exit__(None, None, None)
    assert not closed(first)
    other.__exit__(None, None, None)
    wait_until(lambda: closed(first))
    assert not closed(second)


def test_closing_a_replaced_one_keeps_nobody_waiting_but_the_end() -> None:
    closes = threading.Event()
    first, second = served(closes), served()
    lease = Lease(first)
    lease.swap(second)  # returns though the first cannot be closed yet
    assert not closed(first)
    threading.Timer(0.05, closes.set).start()
    lease.close()
    assert closed(first)
    assert closed(second)
