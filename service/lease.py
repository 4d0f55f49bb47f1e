"""The generation in use. A request holds one from decoding to its JSON, so no answer mixes two.

For one event loop: nothing here is called by other threads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.canaries import Canaries
from service.engine import Engine
from service.verification import Verification

__all__ = ["Lease", "Served"]


@dataclass(eq=False)
class Served:
    """An engine, whether its files are the published ones and its answers right, and how many requests hold it."""

    engine: Engine
    verification: Verification
    canaries: Canaries
    holders: int = 0
    closing: threading.Thread | None = field(default=None, init=False)

    def close(self) -> None:
        """Stop reading its files, and close them."""
        self.verification.close()
        self.engine.close()


class Lease:
    """What new requests are answered from."""

    def __init__(self, served: Served, opened: Callable[[int], None] = lambda _: None) -> None:
        """`opened` is told how many generations are open whenever that changes, in any thread."""
        self.current = served
        self._open, self._opened = {served}, opened
        opened(1)

    @contextmanager
    def hold(self) -> Iterator[Served]:
        """Give what is in use now. It stays open until it is let go, also when it is replaced meanwhile."""
        held = self.current
        held.holders += 1
        try:
            yield held
        finally:
            held.holders -= 1
            self._close_unused(held)

    def swap(self, served: Served) -> None:
        """Answer new requests from `served`. What was in use is closed when the last request lets it go."""
        replaced, self.current = self.current, served
        self._open.add(served)
        self._opened(len(self._open))
        replaced.verification.stop()  # what it would find is the other's metric now
        self._close_unused(replaced)

    def close(self) -> None:
        """Close all generations that are open, and wait for that."""
        for served in list(self._open):
            if served.closing is None:
                self._close(served)
            else:
                served.closing.join()

    def _close_unused(self, served: Served) -> None:
        if served is not self.current and not served.holders:
            # A thread of its own, because it waits for the one that reads the files.
            served.closing = threading.Thread(target=self._close, args=[served], name="close")
            served.closing.start()

    def _close(self, served: Served) -> None:
        served.close()
        self._open.discard(served)
        self._opened(len(self._open))
