"""One soak test: all clients together, decoders killed and generations swapped beside them."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from scripts.load.server import Server
from scripts.soaking.clients import CLIENTS, Soak, good
from scripts.soaking.counts import Counts, Held
from scripts.soaking.known import Known, change

__all__ = ["soaked"]

WARM_UP = 5.0  # seconds of good clients alone before the memory is looked at
REST = 3.0  # seconds of nothing before each look at it
KILL = 10.0  # seconds between two kills
LIMIT = 30.0  # seconds that a replacement, or a swap, may take
DECODER = b"service.decoder"  # an argument of its command line


def soaked(server: Server, known: Known, seconds: float, seed: int) -> tuple[Counts, Held, Held]:
    """Let all clients at the service for so long. Return what happened, and what it held before and after."""
    asyncio.run(_warm(server, known, seed))
    before, counts = held(server), Counts()
    asyncio.run(_all(server, Soak(server.port, known, counts, asyncio.Event(), seed), seconds))
    time.sleep(REST)
    return counts, before, held(server)


def held(server: Server) -> Held:
    return Held(server.memory(), server.open_files(), len(decoders(server)))


def decoders(server: Server) -> set[int]:
    """The processes that decode."""
    found = set()
    for pid in server.processes():
        with suppress(OSError):  # it has just ended
            if DECODER in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.add(pid)
    return found


async def _warm(server: Server, known: Known, seed: int) -> None:
    soak = Soak(server.port, known, Counts(), asyncio.Event(), seed)
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS[good]):
            group.create_task(good(soak, random.Random(f"{seed} warm {number}")))
        await asyncio.sleep(WARM_UP)
        soak.ended.set()
    await asyncio.sleep(REST)


async def _all(server: Server, soak: Soak, seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        for client, count in CLIENTS.items():
            for number in range(count):
                group.create_task(client(soak, random.Random(f"{soak.seed} {client.__name__} {number}")))
        group.create_task(_kill(server, soak))
        await _swap(soak, seconds)
        soak.ended.set()


async def _kill(server: Server, soak: Soak) -> None:
    """End a decoder with SIGKILL now and then, and see that another takes its place."""
    rng, count = random.Random(f"{soak.seed} kills"), len(decoders(server))
    while not await _within(KILL * rng.uniform(0.5, 1.5), soak.ended.is_set):
        if not (alive := sorted(decoders(server))):
            return
        pid = rng.choice(alive)
        os.kill(pid, signal.SIGKILL)
        soak.counts.killed += 1
        if await _within(LIMIT, partial(_replaced, server, pid, count)):
            soak.counts.replaced += 1


async def _swap(soak: Soak, seconds: float) -> None:
    """Make the changes, evenly spread over `seconds`, and see that each is in use; return when these are over, too."""
    begun, counts = time.monotonic(), soak.counts
    for turn, (flags, number) in enumerate(zip(soak.known.changes, soak.known.numbers, strict=True), 1):
        await asyncio.sleep(begun + seconds * turn / (len(soak.known.changes) + 1) - time.monotonic())
        seen = counts.generations[number]
        await asyncio.to_thread(change, soak.known.bundle, flags)
        changed = time.monotonic()
        if await _within(LIMIT, partial(_more, counts, number, seen)):
            counts.swaps.append(time.monotonic() - changed)
    await asyncio.sleep(begun + seconds - time.monotonic())


def _replaced(server: Server, killed: int, count: int) -> bool:
    return len(decoders(server) - {killed}) >= count


def _more(counts: Counts, generation: int, seen: int) -> bool:
    return counts.generations[generation] > seen


async def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return met
