"""How the process ends: nobody else comes in, those inside are answered, and in ten seconds it is gone.

At the signal the port is closed, and an open connection is closed when its request is answered. After DRAIN seconds
what is still inside is cut: a body that has not arrived, an answer that is not read, a search that has not ended. LAST
seconds after the signal a thread ends the process, if one that cannot be stopped (a search, a load) still runs.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvicorn

from service.admission import Gate
from service.connections import Connection

__all__ = ["DRAIN", "Server", "Unfinished"]

DRAIN = 6
LAST = 8.5


class Unfinished(RuntimeError):
    """The service was stopped while it answered requests, and had no more time for them."""

    def __init__(self, requests: int) -> None:
        super().__init__(f"stopped after {DRAIN} seconds, with requests unanswered: {requests}")


class Server(uvicorn.Server):
    """uvicorn's server, which ends in time, and looks after its connections."""

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        super().__init__(config)
        self._gate, self._stopped_by, self._unfinished = gate, 0, 0
        self._stopping = threading.Event()
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Begin to stop; a second Ctrl-C ends the process at once. (uvicorn's own ends by the same signal.)"""
        if self._stopped_by:
            if sig == signal.SIGINT:
                os._exit(130)  # an orderly end would wait for the network's thread
            return
        self._gate.stopping = self.should_exit = True
        self._stopped_by = sig
        self._stopping.set()  # once: a signal that comes inside this call would wait for its lock for ever

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._check_connections()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gate.stopping = True
        cut = asyncio.get_running_loop().call_later(DRAIN, self._cut)
        await super().shutdown(sockets)
        cut.cancel()

    def tell(self) -> None:
        """Raise KeyboardInterrupt after SIGINT, and Unfinished where requests were cut while they were answered."""
        if self._stopped_by == signal.SIGINT:
            raise KeyboardInterrupt
        if self._unfinished:
            raise Unfinished(self._unfinished)

    def _check_connections(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.check(now)

    def _cut(self) -> None:
        self._unfinished = self._gate.places.taken
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.cut()
        for task in self.server_state.tasks:
            task.cancel()

    def _watch(self) -> None:
        self._stopping.wait()
        time.sleep(LAST)
        code = 130 if self._stopped_by == signal.SIGINT else 0
        if self._unfinished:
            print(f"serve.py: {Unfinished(self._unfinished)}", file=sys.stderr, flush=True)  # noqa: T201 (nobody else can)
            code = 2
        os._exit(code)
