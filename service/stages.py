"""How long the stages of one request took: read, decode, queue, forward, search, rerank."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

__all__ = ["Record", "begin", "record", "request_id", "stage"]


@dataclass
class Record:
    """What is known of one request."""

    request_id: str = field(default_factory=lambda: secrets.token_hex(8))
    seconds: dict[str, float] = field(default_factory=dict)  # by stage


_CURRENT: ContextVar[Record | None] = ContextVar("record", default=None)


def begin() -> Record:
    """Start the record of a request, in its context."""
    found = Record()
    _CURRENT.set(found)
    return found


def request_id() -> str | None:
    """Return the id of this context's request, None outside one."""
    found = _CURRENT.get()
    return found.request_id if found else None


def record(name: str, seconds: float) -> None:
    """Add to a stage of this context's request. Outside a request it does nothing."""
    if found := _CURRENT.get():
        found.seconds[name] = found.seconds.get(name, 0.0) + seconds


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the seconds that the block takes to a stage of this context's request."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        record(name, time.perf_counter() - begun)
