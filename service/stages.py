"""What is known of one request while it is answered: its id, how long its stages took, and what answered it.

Observed begins a record in the request's context; whoever does the work adds to it. A job in another thread or process
returns its seconds, and the request's own task records them. Outside a request all this does nothing.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["STAGES", "Record", "Stage", "begin", "note", "record", "request_id", "stage"]

# read: the body arrives.  decode: waiting for a decoder included.  queue: waiting for the network.  forward: the whole
# batch's pass.  search: proposals, of the whole batch.  rerank: their exact distances, in the slow lane too.
Stage = Literal["read", "decode", "queue", "forward", "search", "rerank"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(slots=True)
class Record:
    """One request."""

    request_id: str
    begun: float = field(default_factory=time.perf_counter)
    stages: list[tuple[Stage, float, float]] = field(default_factory=list)  # stage, end (perf_counter), seconds
    batch: int | None = None  # images in the network's pass
    generation: int | None = None  # of the index
    exactness: str | None = None
    problem: str | None = None  # the last part of the problem's type
    key: str | None = None  # the name of the caller's key

    def about(self) -> dict[str, Any]:
        """Return what is known of the answer."""
        known = {name: getattr(self, name) for name in ("batch", "generation", "exactness", "problem", "key")}
        return {name: value for name, value in known.items() if value is not None}

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage that there was, in order; of several images in one request the sums."""
        found: dict[str, float] = {}
        for name, _, seconds in self.stages:
            found[name] = found.get(name, 0.0) + seconds
        return {name: found[name] for name in STAGES if name in found}


_CURRENT: ContextVar[Record | None] = ContextVar("record", default=None)


def begin(request_id: str | None = None) -> Record:
    """Start the record of a request in its context, with an id of its own unless it brings one."""
    found = Record(request_id or f"{random.getrandbits(64):016x}")  # no secret
    _CURRENT.set(found)
    return found


def request_id() -> str | None:
    """Return the id of this context's request, None outside one."""
    found = _CURRENT.get()
    return found.request_id if found else None


def record(name: Stage, seconds: float) -> None:
    """Add a stage that has just ended."""
    if found := _CURRENT.get():
        found.stages.append((name, time.perf_counter(), seconds))


def note(
    *,
    batch: int | None = None,
    generation: int | None = None,
    exactness: str | None = None,
    problem: str | None = None,
    key: str | None = None,
) -> None:
    """Say what answers this request (images in its pass, the index's generation, how exact, with which problem)
    and whose key it has."""
    if found := _CURRENT.get():
        found.batch = found.batch if batch is None else batch
        found.generation = found.generation if generation is None else generation
        found.exactness = found.exactness if exactness is None else exactness
        found.problem = found.problem if problem is None else problem
        found.key = found.key if key is None else key


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Add the seconds that the block takes to a stage of this context's request."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        record(name, time.perf_counter() - begun)
