"""Clients of a service under load: so many at a time, each asking again when it is answered, or so many a second.

Clients that wait for answers send less when the server is slow, so they cannot overload it; those that come at a rate,
answered or not, do. There a request's time begins when it is due, not when it could be sent.
"""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from scripts.load.connection import Connection, Lost

__all__ = ["BUSY", "LOST", "OK", "Load", "arriving", "asking", "milliseconds"]

PATIENCE = 30.0  # seconds; an answer that takes longer counts as lost
IDLE = 256  # connections that are kept for the next arrivals
OK, BUSY, LOST = 200, 503, 0  # LOST: no answer

Seen = tuple[float, float, int]  # a request's begin (seconds after the window's), seconds taken, status


@dataclass(frozen=True)
class Load:
    """What clients saw in one window of time."""

    seconds: float  # of the window
    answers: tuple[Seen, ...]  # that came in it, and those to its last requests that came after it
    client_share: float  # of the processor time of all cores, that the clients took

    @property
    def rate(self) -> float:
        """Good answers a second, of those that came inside the window."""
        return (
            sum(status == OK and begun + taken <= self.seconds for begun, taken, status in self.answers) / self.seconds
        )

    def milliseconds(self, percentile: float, status: int = OK) -> float:
        """Time of an answer with this status; not a number where there is none."""
        return milliseconds(self.answers, percentile, status)

    def count(self, *statuses: int) -> int:
        return sum(status in statuses for _, _, status in self.answers)


def milliseconds(answers: Sequence[Seen], percentile: float, status: int = OK) -> float:
    """Time of an answer with this status; not a number where there is none."""
    taken = [seconds for _, seconds, found in answers if found == status]
    return float(np.percentile(taken, percentile)) * 1e3 if taken else float("nan")


def asking(port: int, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float = 0.0) -> Load:
    """Let `clients` ask, each for the next request as soon as it has an answer. What comes in `warm_up` is left out."""

    async def client(connection: Connection, turns: Iterator[bytes], begun: float) -> list[Seen]:
        found = []
        while (asked := time.perf_counter() - begun) < seconds:
            status = await _status(connection, next(turns))
            taken = time.perf_counter() - begun - asked
            if asked + taken >= 0:
                found.append((asked, taken, status))
        connection.close()
        return found

    async def all_of_them() -> list[Seen]:
        turns, begun = cycle(requests), time.perf_counter() + warm_up
        seen = await asyncio.gather(*(client(Connection(port), turns, begun) for _ in range(clients)))
        return [answer for answers in seen for answer in answers]

    return _timed(all_of_them(), seconds)


def arriving(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Load:
    """Let requests arrive at `rate` a second for `seconds`, whatever the answers: a Poisson process."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    idle: list[Connection] = []

    async def one(request: bytes, at: float, begun: float) -> Seen:
        connection = idle.pop() if idle else Connection(port)
        status = await _status(connection, request)
        if len(idle) < IDLE:
            idle.append(connection)
        else:
            connection.close()
        return at, time.perf_counter() - begun - at, status

    async def all_of_them() -> list[Seen]:
        turns, begun, asked = cycle(requests), time.perf_counter(), []
        for at in due:
            if (early := begun + at - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            asked.append(asyncio.create_task(one(next(turns), float(at), begun)))
        found = await asyncio.gather(*asked)
        for connection in idle:
            connection.close()
        return found

    return _timed(all_of_them(), seconds)


async def _status(connection: Connection, request: bytes) -> int:
    try:
        return (await connection.ask(request, PATIENCE)).status
    except Lost:
        return LOST


def _timed(work: Coroutine[Any, Any, list[Seen]], seconds: float) -> Load:
    begun, used = time.perf_counter(), time.process_time()
    found = asyncio.run(work)
    share = (time.process_time() - used) / (time.perf_counter() - begun) / (os.cpu_count() or 1)
    return Load(seconds, tuple(found), share)
