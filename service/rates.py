"""How many requests one caller may send in a time, counted by the library `limits`."""

import math
import time
from ipaddress import IPv6Address, ip_address

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException

__all__ = ["Rate", "TooManyRequests", "checked", "network_of"]

CALLERS = 10_000  # counted at the same time
LONGEST = 64  # characters of the name of one


class TooManyRequests(HTTPException):
    """The caller has sent as many requests as one may in a time."""

    def __init__(self, rate: str, seconds: int) -> None:
        detail = f"more than {rate} from one key or address; try again in {seconds} s"
        super().__init__(429, detail, {"Retry-After": str(seconds)})


class Rate:
    """Counts each caller's requests. The methods are for one event loop.

    A caller's time begins with its first request. Memory is bounded: when more than CALLERS are known, all counts start
    again, so who has that many addresses is not held back by their number, and nobody else is shut out.
    """

    def __init__(self, rate: str) -> None:
        """rate: as `checked` accepts it."""
        self._items: list[RateLimitItem] = _parsed(rate)
        self._forget()

    def count(self, caller: str) -> None:
        """Count one request. Raises TooManyRequests."""
        if caller not in self._callers:
            if len(self._callers) == CALLERS:
                self._forget()
            self._callers.add(caller)
        for item in self._items:
            if not self._limiter.hit(item, caller):
                end = self._limiter.get_window_stats(item, caller).reset_time
                raise TooManyRequests(str(item), max(1, math.ceil(end - time.time())))

    def _forget(self) -> None:
        self._callers: set[str] = set()
        # New, not reset: a thread of the old one, which looks for counts that are over, may be reading it.
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)


def checked(rate: str) -> str:
    """Return the rate, as "60/minute" or "60/minute;1000/day", or nothing for no limit. Raises ValueError."""
    if rate:
        _parsed(rate)
    return rate


def network_of(address: str) -> str:
    """Return what is counted as one caller: an IPv4 address, or the 64 bits of an IPv6 network, which one user has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:LONGEST]  # a proxy may forward anything
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return found.exploded[:19]


def _parsed(rate: str) -> list[RateLimitItem]:
    try:
        items = list(parse_many(rate))
    except ValueError:
        items = []
    if not items or any(item.amount < 1 for item in items):
        raise ValueError(f"{rate!r} is not a rate; accepted are 60/minute, 10/second, or several: 60/minute;1000/day")
    return items
