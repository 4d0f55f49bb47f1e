"""Whether the index is the one that was published: every file is read after the start, while requests are answered.

Opening an index checks the sizes of its files alone: else a start would take as long as the collection is large.
"""

import logging
import threading
from collections.abc import Callable
from typing import Literal

from index import DamagedPart
from service.background import step_back

__all__ = ["State", "Verification"]

State = Literal["pending", "done", "failed"]
Verify = Callable[[Callable[[], None]], None]


class _Stopped(Exception):
    """The service is being shut down."""


class Verification:
    """Reads all files once, in a thread of its own."""

    def __init__(self, verify: Verify | None, report: Callable[[State], None]) -> None:
        """Start. `report` gets each new state.

        verify: reads the files, raises DamagedPart, and often calls its argument; None when all files have been read.
        """
        self.damaged: str | None = None  # name of the file that is not the published one
        self._report, self._stop = report, threading.Event()
        self._set("pending" if verify else "done")
        self._thread: threading.Thread | None = None
        if verify:
            # A daemon, because a second Ctrl-C ends the service without a call to `close`.
            self._thread = threading.Thread(target=self._run, args=[verify], name="verify", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop soon, and report nothing more."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self.stop()
        if self._thread:
            self._thread.join()

    def _run(self, verify: Verify) -> None:
        step_back(19)
        try:
            verify(self._go_on)
        except _Stopped:
            return
        except DamagedPart as error:
            logging.getLogger(__name__).error("no longer ready: %s", error)
            self.damaged = error.part
            self._set("failed")
        else:
            self._set("done")

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _set(self, state: State) -> None:
        self.state: State = state
        if not self._stop.is_set():
            self._report(state)
