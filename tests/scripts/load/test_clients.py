"""The clients count every request, and what became of it: they decide what the service is said to do."""

import asyncio
import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from scripts.load.clients import BUSY, LOST, OK, Load, arriving, asking
from scripts.load.connection import Lost, once
from tests.scripts.load.toy import REQUEST, Writer, good, server


def every_third_refused(number: int, writer: Writer) -> None:
    if number % 3:
        good(number, writer)
    else:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def every_third_dropped(number: int, writer: Writer) -> None:
    if number % 3:
        good(number, writer)
    else:
        writer.close()


def test_a_client_asks_again_when_it_is_answered() -> None:
    with server(good, seconds=0.05) as port:
        load = asking(port, [REQUEST], clients=4, seconds=0.6)
    assert load.count(OK) == len(load.answers)
    assert 4 * 2 <= len(load.answers) <= 4 * 12  # each has one request at a time, of 50 ms
    assert load.milliseconds(0) >= 50
    assert load.rate <= len(load.answers) / 0.6


def test_what_comes_while_it_warms_up_is_not_counted() -> None:
    with server(good, seconds=0.05) as port:
        load = asking(port, [REQUEST], clients=1, seconds=0.2, warm_up=0.4)
    assert 1 <= len(load.answers) <= 5
    assert all(begun + taken >= 0 for begun, taken, _ in load.answers)


def test_requests_arrive_whatever_the_answers() -> None:
    """The server takes 200 ms for each, yet 100 arrive in half a second; their time counts from when they are due."""
    with server(good, seconds=0.2) as port:
        load = arriving(port, [REQUEST], rate=200, seconds=0.5)
    assert len(load.answers) == 100
    assert load.count(OK) == 100
    assert load.milliseconds(0) >= 200
    begun = [at for at, _, _ in load.answers]
    assert begun == sorted(begun)
    assert 0.3 < begun[-1] < 0.8
    gaps = [after - before for before, after in pairwise(begun)]
    assert min(gaps) < 0.001 < 0.01 < max(gaps)  # not one after the other like clockwork


@pytest.mark.parametrize(("answer", "status"), [(every_third_refused, BUSY), (every_third_dropped, LOST)])
def test_what_is_not_answered_is_counted_and_not_lost_from_sight(
    answer: Callable[[int, Writer], None], status: int
) -> None:
    with server(answer) as port:
        load = arriving(port, [REQUEST], rate=300, seconds=0.2)
    assert load.count(OK) + load.count(status) == len(load.answers) == 60
    assert load.count(status) == 20
    assert load.milliseconds(99, status) > 0


def test_an_answer_after_the_window_is_no_part_of_its_rate() -> None:
    load = Load(2.0, ((0.0, 1.0, OK), (1.0, 0.9, OK), (1.5, 0.6, OK), (0.5, 0.1, BUSY)), 0.0)
    assert load.rate == 1.0
    assert load.milliseconds(100) == 1000
    assert math.isnan(load.milliseconds(50, LOST))


def test_an_answer_that_does_not_come_is_lost_after_a_while() -> None:
    with server(lambda *_: None) as port, pytest.raises(Lost, match="TimeoutError"):
        asyncio.run(once(port, REQUEST, patience=0.1))


def test_an_answer_in_chunks_is_read_whole() -> None:
    def chunked(_: int, writer: Writer) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n')

    with server(chunked) as port:
        assert asyncio.run(once(port, REQUEST)).json() == {"a": 1}
