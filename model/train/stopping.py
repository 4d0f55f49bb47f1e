"""Signals that ask a training process to stop, and are answered after the step in hand."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopping", "stopping"]


class Stopping:
    """Remembers the signal that asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Return True once a signal has asked to stop."""
        return self.signal is not None

    def asked(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. A second Ctrl-C does not wait for a save: it raises KeyboardInterrupt."""
        del frame
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stopping]:
    """While inside, let SIGTERM and Ctrl-C only ask: the step in hand is finished and the state saved."""
    stop = Stopping()
    before = {number: signal.signal(number, stop.asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
