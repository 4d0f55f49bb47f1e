"""Saving while training goes on: when it is time, and a thread that writes one thing after the other."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["BackgroundWriter", "Every"]


class Every:
    """Tells when `seconds` have passed since it was made, or since it last said so; 0: never."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.since = clock()

    def __call__(self) -> bool:
        """Return whether it is time, once for each time."""
        now = self.clock()
        if not self.seconds or now - self.since < self.seconds:
            return False
        self.since = now
        return True


class BackgroundWriter:
    """Runs one write at a time in a thread of its own.

    As a context manager it waits for the write in hand, and raises its error unless the block raises one itself. A
    KeyboardInterrupt does not wait: the thread ends with the process.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], object]) -> None:
        """Wait for the write before, then begin this one. Raises the error of the write before."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises the error of the last write, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> "BackgroundWriter":
        """Nothing is being written yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Wait, unless the block was interrupted."""
        if kind is None:
            self.wait()
        elif self._thread is not None and issubclass(kind, Exception):
            self._thread.join()

    def _run(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error
