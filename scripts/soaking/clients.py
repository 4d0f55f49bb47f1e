"""Clients of a soak test: good ones, whose answers are compared; and bad, slow and aborted ones, as strangers are."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scripts.load.connection import Connection, Lost, once, post
from scripts.soaking.counts import Counts
from scripts.soaking.known import Known

__all__ = ["CLIENTS", "Soak", "good"]

ROUTES = ("/classify", "/neighbours")
PATIENCE = 15.0  # seconds that a slow client stays, unless it is sent away
TRICKLE = 0.5  # seconds between two small portions
HALF_A_HEAD = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9"


@dataclass(frozen=True)
class Soak:
    """What every client is given."""

    port: int
    known: Known
    counts: Counts
    ended: asyncio.Event  # the clients stop when it is set
    seed: int = 0


async def good(soak: Soak, rng: random.Random) -> None:
    """Ask for photographs over a connection that is kept, and compare every answer."""
    connection, counts = Connection(soak.port), soak.counts
    while not soak.ended.is_set():
        row, route = rng.randrange(len(soak.known.photographs)), rng.choice(ROUTES)
        begun = time.perf_counter()
        try:
            answer = await connection.ask(post(route, soak.known.photographs[row]))
        except Lost:
            counts.statuses["good lost"] += 1
            continue
        counts.statuses[f"good {answer.status}"] += 1
        if answer.status == 200:
            counts.seconds.append(time.perf_counter() - begun)
            _compare(soak, row, answer.json())
        elif answer.status == 503:
            await asyncio.sleep(rng.uniform(0.05, 0.2))
    connection.close()


def _compare(soak: Soak, row: int, answer: Any) -> None:
    generation = answer.get("generation")
    if generation is not None:  # /classify does not depend on it
        soak.counts.generations[generation] += 1
    right = soak.known.right.get(generation or 1)
    if (wrong := "no such generation" if right is None else right[row].wrong(answer)) is not None:
        soak.counts.wrong.append(f"generation {generation}, photograph {row}: {wrong}")


async def bad(soak: Soak, rng: random.Random) -> None:
    """Send broken images, wrong parameters and too much; each has to be refused."""
    photograph = soak.known.photographs[0]
    requests = [
        post("/classify", photograph[: len(photograph) // 3]),
        post("/classify", b"no image"),
        post("/neighbours", b""),
        post("/neighbours", photograph, k="0"),
        post("/classify", photograph, top_k="many"),
        post("/neighbours", photograph, image_id="1"),
        b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
        b"GET /no/such/page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000000\r\n\r\n",
    ]
    while not soak.ended.is_set():
        try:
            status = str((await once(soak.port, rng.choice(requests))).status)
        except Lost:
            status = "lost"
        soak.counts.statuses[f"bad {status}"] += 1
        await asyncio.sleep(rng.uniform(0.01, 0.05))


async def slow(soak: Soak, rng: random.Random) -> None:
    """Send a body in small portions, or half a head; or read answers slowly."""
    whole = post("/classify", soak.known.photographs[0])
    page = b"GET /static/page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    kinds: dict[str, tuple[bytes, bytes]] = {
        "slow bodies": (whole[:600], b"x"),
        "half heads": (HALF_A_HEAD, b""),
        "slow readers": (page * 100, b""),
    }
    while not soak.ended.is_set():
        kind = rng.choice(list(kinds))
        soak.counts.misbehaved[kind] += 1
        with suppress(OSError, EOFError):
            await _stay(soak, *kinds[kind])


async def _stay(soak: Soak, first: bytes, then: bytes) -> None:
    """Send `first`, then, now and then, send `then` and read a little, until sent away or tired."""
    reader, writer = await asyncio.open_connection("127.0.0.1", soak.port, limit=1024)
    try:
        writer.write(first)
        tired = time.monotonic() + PATIENCE
        while time.monotonic() < tired and not (reader.at_eof() or soak.ended.is_set()):
            writer.write(then)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(256), TRICKLE)
            await asyncio.sleep(TRICKLE)
    finally:
        writer.transport.abort()


async def aborted(soak: Soak, rng: random.Random) -> None:
    """Hang up in the middle of a body, or before the answer."""
    while not soak.ended.is_set():
        request = post(rng.choice(ROUTES), rng.choice(soak.known.photographs))
        middle = rng.random() < 0.5
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", soak.port)
            writer.write(request[: len(request) // 2] if middle else request)
            await asyncio.sleep(rng.uniform(0, 0.05))
            writer.transport.abort()
        soak.counts.misbehaved["bodies cut off" if middle else "answers not awaited"] += 1
        await asyncio.sleep(rng.uniform(0.02, 0.1))


CLIENTS: Mapping[Callable[[Soak, random.Random], Coroutine[Any, Any, None]], int] = {
    good: 16,
    bad: 2,
    slow: 6,
    aborted: 2,
}
