"""What requests hold while they are answered: a place, and room for the bytes of their bodies.

A body that arrives slowly gives its place back until it is there, so that slow clients keep no quick ones out. All slow
bodies together may have half of the bytes, those of one address a quarter; and whatever is still to arrive from one
address half, or who begins twenty bodies a second and sends none would keep all others out. For one event loop.
"""

from collections import Counter

from prometheus_client import Gauge

from service.errors import CLOSE, Busy

__all__ = ["Places", "Visit"]


class Places:
    """How many requests hold a place, and how many bytes all bodies have or may have."""

    def __init__(self, most: int, budget: int, admitted: Gauge) -> None:
        """most: requests that hold a place; budget: bytes of all bodies; admitted: shows how many hold a place."""
        self.most, self.budget = most, budget
        self.taken = self.bytes = 0
        self.arriving: Counter[str] = Counter()  # bytes of the bodies that are not there, by address
        self.slow: Counter[str] = Counter()  # those of them that arrive slowly
        self._admitted = admitted

    def take(self, most: int) -> None:
        """Raises Busy where `most` places are taken."""
        if self.taken >= most:
            raise Busy(f"{self.taken} requests are being answered, which is the maximum; try again in a moment")
        self.taken += 1
        self._admitted.set(self.taken)

    def give(self) -> None:
        self.taken -= 1
        self._admitted.set(self.taken)


class Visit:
    """What one request holds. `leave` gives back whatever that is."""

    def __init__(self, places: Places, address: str, size: int, *, computes: bool) -> None:
        """size: bytes that the body has or may have; computes: whether it takes a place. Raises Busy."""
        if size > places.budget - places.bytes:
            raise Busy("the bodies of other requests take all the room there is for them; try again in a moment")
        if places.arriving[address] + size > places.budget // 2:
            raise Busy("too many bodies arrive from this address; try again in a moment")
        if computes:
            places.take(places.most)
        places.bytes += size
        self._places, self._address, self._bytes = places, address, size
        self._holds, self._returns, self._slow, self._arriving = computes, False, False, True
        self._count(places.arriving, size)

    @property
    def has_body(self) -> bool:
        return self._bytes > 0

    def lag(self) -> None:
        """The body arrives slowly: give the place back until it is there. Raises Busy where too many do."""
        slow, most = self._places.slow, self._places.budget // 2
        if slow.total() + self._bytes > most or slow[self._address] + self._bytes > most // 2:
            raise Busy("too many requests arrive slowly; try again in a moment", CLOSE)
        self._count(slow, self._bytes)
        self._slow, self._returns = True, self._holds
        self.answered()

    def arrived(self, size: int) -> None:
        """The body is there, with so many bytes. Raises Busy where twice as many as there are places are in flight."""
        self._catch_up()
        self._places.bytes -= self._bytes - size
        self._bytes = size
        if self._returns:
            self._places.take(2 * self._places.most)
            self._holds, self._returns = True, False

    def answered(self) -> None:
        """Give the place back."""
        if self._holds:
            self._places.give()
            self._holds = False

    def leave(self) -> None:
        """Give everything back. A second call does nothing."""
        self.answered()
        self._catch_up()
        self._places.bytes -= self._bytes
        self._bytes = 0

    def _catch_up(self) -> None:
        if self._arriving:
            self._arriving = False
            self._count(self._places.arriving, -self._bytes)
        if self._slow:
            self._slow = False
            self._count(self._places.slow, -self._bytes)

    def _count(self, bodies: Counter[str], size: int) -> None:
        """Add to the bytes of this address; one that has none is not kept."""
        bodies[self._address] += size
        if not bodies[self._address]:
            del bodies[self._address]
