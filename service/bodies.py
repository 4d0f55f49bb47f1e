"""One request's body: how large it may be, how slowly it may arrive, and what becomes of the rest after a refusal."""

import asyncio
from dataclasses import dataclass

from starlette.types import Message, Receive

from service.errors import TooManyBytes, TooSlow
from service.places import Visit

__all__ = ["Body", "Drain", "Limits"]

PATIENCE = 0.5  # seconds after which a body that has not arrived counts as slow
GRACE = 10.0  # seconds after which its mean rate counts


@dataclass(frozen=True)
class Limits:
    """Of one body: its bytes, the seconds in which it must arrive, its slowest mean rate in bytes a second."""

    size: int
    seconds: float
    rate: float


class Body:
    """What the app receives of one request. A body that breaks a limit raises its error where the app reads it."""

    def __init__(self, receive: Receive, visit: Visit, limits: Limits) -> None:
        self._receive, self._visit, self._limits = receive, visit, limits
        self._begun = asyncio.get_running_loop().time()
        self._size, self._slow = 0, False
        self._complete = False
        self.unread = visit.has_body  # whether the client may be sending what nobody waits for

    async def receive(self) -> Message:
        """Return the next message. Raises TooManyBytes, TooSlow, Busy."""
        if self._complete:
            return await self._receive()  # http.disconnect, when the client hangs up
        message = await self._next()
        self._size += len(message.get("body", b""))
        if self._size > self._limits.size:
            self.unread = message.get("more_body", False)
            raise TooManyBytes(self._limits.size)
        if not message.get("more_body", False):
            self._complete, self.unread = True, False
            self._visit.arrived(self._size)
        return message

    async def _next(self) -> Message:
        if not self._slow:
            try:
                async with asyncio.timeout_at(self._begun + PATIENCE):
                    return await self._receive()
            except TimeoutError:
                self.unread = False  # if it is refused for that, it is not waited for any longer
                self._visit.lag()
                self._slow = True
        due = min(self._limits.seconds, GRACE + self._size / self._limits.rate)
        try:
            async with asyncio.timeout_at(self._begun + due):
                return await self._receive()
        except TimeoutError:
            raise TooSlow(self._limits.rate, self._limits.seconds) from None


class Drain:
    """Reads what a refused client still sends, and throws it away: a client whose connection is closed while it sends
    may not read its answer. It does so for a limited time, for limited bytes, and for a limited number of clients."""

    def __init__(self, seconds: float = 5.0, most: int = 100_000_000, clients: int = 64) -> None:
        self._seconds, self._most, self._free = seconds, most, clients

    async def read(self, receive: Receive) -> None:
        """Return when the client has sent everything or hung up, or at a limit."""
        if not self._free:
            return
        self._free -= 1
        try:
            async with asyncio.timeout(self._seconds):
                left, more = self._most, True
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = message.get("more_body", False)
        except (TimeoutError, asyncio.CancelledError):  # cancelled is who is still read when the service stops
            pass
        finally:
            self._free += 1
