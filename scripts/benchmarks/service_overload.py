"""The service at its capacity, at ten times that, and after it: accepted and refused requests, memory, recovery."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scripts.benchmarks.service_inputs import Inputs
from scripts.benchmarks.service_targets import Target, at_least, at_most
from scripts.benchmarks.settings import Service
from scripts.benchmarks.timing import table
from scripts.load.clients import BUSY, OK, Load, arriving, asking
from scripts.load.server import Server, free_port, started

__all__ = ["Phase", "measure", "shown"]

ROUTE = "/classify"
TIMES = 10  # the capacity
WARM_UP = 2.0  # seconds
EVERY = 0.25  # seconds between two looks at the memory
RECOVERY = 20.0  # seconds that it may take until single requests are answered again as before


@dataclass(frozen=True)
class Phase:
    """What requests that arrive at one rate met."""

    name: str
    offered: float  # requests a second
    accepted: float  # answered with 200, a second
    p50_ms: float  # of those
    p99_ms: float
    refused: float  # answered with 503, a second
    refused_p99_ms: float
    other: int  # answers of another status, or none
    before_mb: float  # memory of all the service's processes
    most_mb: float
    after_mb: float
    client_share: float  # of the machine's processor time that the clients took


def measure(config: Service, inputs: Inputs) -> Iterator[Phase | Target]:
    """Find the capacity, then let requests arrive at that rate, and at ten times it."""
    port, requests = free_port(), inputs.requests(ROUTE)
    command = [sys.executable, "scripts/serve.py", "--bundle", str(inputs.bundle), "--port", str(port)]
    with started(command, port, requests[0]) as server:
        alone = asking(server.port, requests, 1, config.seconds / 2, WARM_UP).milliseconds(50)
        capacity = asking(server.port, requests, max(config.clients), config.seconds, WARM_UP).rate
        full, _ = _phase(f"at {capacity:.0f}/s, the capacity", server, requests, capacity, config.seconds)
        over, drained = _phase(f"{TIMES} times that", server, requests, TIMES * capacity, config.seconds)
        recovered = drained + _recovery(server.port, requests, alone)
        after, _ = _phase("at capacity again", server, requests, capacity, config.seconds)
    yield from (full, over, after)
    yield at_most(f"p99 of the accepted, {TIMES} times over that at capacity", over.p99_ms / full.p99_ms, 2)
    yield at_most("p99 of a refusal, ms", over.refused_p99_ms, 50)
    yield at_most("memory after, over memory before", over.after_mb / over.before_mb, 1.1)
    yield at_most("s from the last arrival until single requests are answered as before", recovered, 1)
    yield at_least(f"accepted a second, {TIMES} times over that at capacity", over.accepted / full.accepted, 0.8)
    yield at_most("answers that were neither 200 nor 503, or none", full.other + over.other + after.other, 0)


def shown(phases: Sequence[Phase]) -> str:
    """A table with one line for each phase."""
    rows = [
        [
            p.name,
            f"{p.offered:,.0f}",
            f"{p.accepted:,.1f}",
            f"{p.p50_ms:,.0f}",
            f"{p.p99_ms:,.0f}",
            f"{p.refused:,.0f}",
            f"{p.refused_p99_ms:,.1f}",
            str(p.other),
            f"{p.before_mb:,.0f}, {p.most_mb:,.0f}, {p.after_mb:,.0f}",
            f"{p.client_share:.1%}",
        ]
        for p in phases
    ]
    head = ["requests arrive", "a second", "200 a second", "p50 ms", "p99 ms", "503 a second", "p99 ms", "others"]
    return table([*head, "MB before, most, after", "processor time of the clients"], rows)


def _phase(name: str, server: Server, requests: Sequence[bytes], rate: float, seconds: float) -> tuple[Phase, float]:
    """Return the phase, and how many seconds after the last arrival the last answer came."""
    before = server.memory()
    with _watched(server) as memory:
        load = arriving(server.port, requests, rate, seconds)
    phase = Phase(
        name,
        rate,
        load.rate,
        load.milliseconds(50),
        load.milliseconds(99),
        _rate(load, BUSY),
        load.milliseconds(99, BUSY),
        len(load.answers) - load.count(OK, BUSY),
        before / 1e6,
        max(memory, default=before) / 1e6,
        server.memory() / 1e6,
        load.client_share,
    )
    return phase, max(begun + taken for begun, taken, _ in load.answers) - max(begun for begun, _, _ in load.answers)


def _rate(load: Load, status: int) -> float:
    return load.count(status) / load.seconds


def _recovery(port: int, requests: Sequence[bytes], normal_ms: float) -> float:
    """Seconds until an answer takes less than twice what it takes a single client."""
    begun = time.perf_counter()
    while (waited := time.perf_counter() - begun) < RECOVERY:
        if asking(port, requests, 1, 0.001).milliseconds(50) < 2 * normal_ms:
            return waited
    return RECOVERY


@contextmanager
def _watched(server: Server) -> Iterator[list[int]]:
    """The memory of the service, in bytes, again and again while the caller works."""
    seen, ended = list[int](), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            seen.append(server.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
