"""Decoding in processes that can be ended: a file may crash a C library, or keep it busy for hours.

Each process has a socket of its own, so what happens to one is nothing to the others. One that ends, or takes longer
than the limit and is ended, is replaced. (The workers of Pebble's pool share one pipe: when an idle one was killed, the
next image failed.)
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence

import numpy as np
from fastapi import UploadFile
from numpy.typing import NDArray

from service.decoder_process import COMMAND, DecoderEnded, DecoderProcess, Limits
from service.errors import Busy
from service.metrics import Metrics

__all__ = ["Decoders"]

START_SECONDS = 60.0  # for a process to be ready; it takes 0.3 s where the processor is free
RETRY_SECONDS = 1.0  # between attempts to start one

log = logging.getLogger(__name__)


class Decoders:
    """A number of decoder processes. The methods are for one event loop."""

    def __init__(self, count: int, limits: Limits, metrics: Metrics, command: Sequence[str] = COMMAND) -> None:
        """Start the processes, in the background."""
        self._count, self._limits, self._metrics, self._command = count, limits, metrics, command
        self._alive: set[DecoderProcess] = set()
        self._free: list[DecoderProcess] = []
        self._waiting: deque[asyncio.Future[DecoderProcess]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self.problem: str | None = None  # why images cannot be decoded, or fewer at a time
        for _ in range(count):
            self._replace()

    @property
    def pids(self) -> frozenset[int]:
        """The processes that can decode now."""
        return frozenset(decoder.process.pid for decoder in self._alive)

    async def decode(self, upload: UploadFile | bytes, side: int) -> NDArray[np.uint8]:
        """Decode an image: (S, S, 3), S = `side`. Raises BadImage, TooManyPixels, TooCostly, DecoderEnded, Busy.

        An upload is read when a process is free for it, so that no more of them are in memory.
        """
        data = upload if isinstance(upload, bytes) else None
        while True:
            decoder = await self._turn()
            try:
                if data is None:
                    data = await upload.read()  # type: ignore[union-attr]  # once: read again, it is empty
            except BaseException:
                self._freed(decoder)
                raise
            if decoder in self._alive:
                return await decoder.ask(data, side)

    async def close(self) -> None:
        """End the processes, and refuse what waits for them."""
        starting, decoders = tuple(self._starting), tuple(self._alive)
        self._alive.clear()  # so that none is replaced
        self._free.clear()
        self.problem = "the service is stopping"
        for task in starting:
            task.cancel()
        for decoder in decoders:
            decoder.end()
        self._refuse(self.problem)
        await asyncio.gather(*starting, *(decoder.ended for decoder in decoders), return_exceptions=True)

    async def _turn(self) -> DecoderProcess:
        if self._free:
            return self._free.pop()
        if self.problem and not self._alive:
            raise Busy(self.problem)
        turn: asyncio.Future[DecoderProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and not turn.exception():
                self._freed(turn.result())
            raise

    def _freed(self, decoder: DecoderProcess) -> None:
        """Give the process to the request that has waited longest."""
        if decoder not in self._alive:
            return
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_result(decoder)
                return
        self._free.append(decoder)

    def _lost(self, decoder: DecoderProcess) -> None:
        if decoder in self._alive:
            self._alive.remove(decoder)
            self._metrics.decoders.set(len(self._alive))
            self._metrics.decoders_lost.labels(decoder.why).inc()
            with contextlib.suppress(ValueError):
                self._free.remove(decoder)
            self._replace()

    def _replace(self) -> None:
        task = asyncio.get_running_loop().create_task(self._start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        """Start one process, with as many attempts as that takes."""
        while True:
            try:
                async with asyncio.timeout(START_SECONDS):
                    decoder = await DecoderProcess.start(self._command, self._limits, self._freed, self._lost)
                break
            except (OSError, TimeoutError, DecoderEnded) as error:
                log.error("a decoder cannot be started: %s", error)
                self.problem = "a process that decodes images cannot be started; the server's log says why"
                if not self._alive:
                    self._refuse(self.problem)
                await asyncio.sleep(RETRY_SECONDS)
        self._alive.add(decoder)
        self._metrics.decoders.set(len(self._alive))
        if len(self._alive) == self._count:
            self.problem = None
        self._freed(decoder)

    def _refuse(self, why: str) -> None:
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_exception(Busy(why))
