"""The generation in use. A request holds one from decoding to its JSON, so no answer mixes two.

For one event loop: nothing here is called by other threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.engine import Engine
from service.verification import Verification

__all__ = ["Lease", "Served"]


@dataclass(eq=False)
class Served:
    """An engine, whether its files are the published ones, and how many requests hold it."""

    engine: Engine
    verification: Verification
    holders: int = 0

    def close(self) -> None:
        """Stop reading its files, and close them."""
        self.verification.close()
        self.engine.close()


class Lease:
    """What new requests are answered from."""

    def __init__(self, served: Served) -> None:
        self.current = served

    @contextmanager
    def hold(self) -> Iterator[Served]:
        """Give what is in use now. It stays open until it is let go, also when it is replaced meanwhile."""
        held = self.current
        held.holders += 1
        try:
            yield held
        finally:
            held.holders -= 1
            if held is not self.current and not held.holders:
                held.close()

    def swap(self, served: Served) -> None:
        """Answer new requests from `served`. What was in use is closed when the last request lets it go."""
        replaced, self.current = self.current, served
        if not replaced.holders:
            replaced.close()
