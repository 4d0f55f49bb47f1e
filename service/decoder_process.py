"""One decoder process, as the service sees it: it is given an image, and answers, ends or is ended.

The socket's protocol is asyncio's BufferedProtocol, so the pixels are read from the socket straight into the array that
the network gets. (Shared memory would save 20 microseconds of an image, and would have to be given back on every path.)
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model import BadImage, TooManyPixels
from service.decoder import ANSWER, ASKED, LONGEST, Outcome
from service.errors import TooCostly
from service.settings import Settings
from service.stages import request_id

__all__ = ["COMMAND", "DecoderEnded", "DecoderProcess", "Limits"]

COMMAND = (sys.executable, "-m", "service.decoder")  # executed: a fork of this process would have its threads' locks
ROOT = Path(__file__).resolve().parents[1]
PRINTED = 2000  # bytes of what the libraries printed that are logged, of each image

# By how much the address space grows, measured: 20 bytes a pixel for JPEG 2000, 16 for WebP, 10 for AVIF, at most 8 for
# the others; and the upload is in memory up to three times: as received, as a file for Pillow, as a library's copy.
BYTES_A_PIXEL, COPIES, BYTES_MORE = 24, 3, 64_000_000

log = logging.getLogger(__name__)


class DecoderEnded(BadImage):
    """The process that decoded the image ended."""


@dataclass(frozen=True)
class Limits:
    """What decoding one image may take."""

    seconds: float
    memory: int  # bytes
    max_pixels: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits under which every image that the settings allow can be decoded."""
        memory = BYTES_A_PIXEL * settings.max_pixels + COPIES * settings.max_bytes + BYTES_MORE
        return cls(settings.decode_seconds, memory, settings.max_pixels)


class DecoderProcess(asyncio.BufferedProtocol):
    """A process that decodes one image at a time. It calls `freed` when it could have another, `lost` when it ended."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        printed: IO[bytes],
        limits: Limits,
        freed: Callable[["DecoderProcess"], None],
        lost: Callable[["DecoderProcess"], None],
    ) -> None:
        self.process = process
        self._printed, self._limits, self._freed, self._lost = printed, limits, freed, lost
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: str | None = None
        self._ending = False
        self.why = "crash"  # it ended, or is to end; else "time" or "memory" (metrics.py)
        self.ended = asyncio.get_running_loop().create_future()
        self._expect(0)

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        limits: Limits,
        freed: Callable[["DecoderProcess"], None],
        lost: Callable[["DecoderProcess"], None],
    ) -> "DecoderProcess":
        """Start `command`, and wait until it is ready. Raises OSError, DecoderEnded."""
        ours, theirs = socket.socketpair()
        printed = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 (closed in connection_lost)
        with theirs:
            arguments = theirs.fileno(), limits.memory, limits.seconds, limits.max_pixels
            try:
                process = subprocess.Popen(
                    [*command, *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=printed,
                    pass_fds=[theirs.fileno()],
                    cwd=ROOT,
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # else NumPy reserves memory for more
                    start_new_session=True,  # Ctrl-C is for the service, which then ends its decoders
                )
            except OSError:
                ours.close()
                printed.close()
                raise
        decoder = cls(process, printed, limits, freed, lost)
        ready = decoder._answer
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: decoder, sock=ours)
            await ready
        except BaseException:
            ready.cancel()
            decoder.end()
            if decoder._transport:
                decoder._transport.abort()
            ours.close()
            decoder.connection_lost(None)  # uvloop does not call it where `create_unix_connection` was cancelled
            raise
        if decoder.ended.done():
            raise DecoderEnded("it ended when it was ready")
        return decoder

    def ask(self, data: bytes, side: int) -> "asyncio.Future[NDArray[np.uint8]]":
        """Decode an image: (S, S, 3), S = `side`. Raises BadImage, TooManyPixels, TooCostly, DecoderEnded."""
        self._expect(side)
        self._request = request_id()
        self._timer = asyncio.get_running_loop().call_later(self._limits.seconds, self._overrun)
        self._transport.writelines((ASKED.pack(len(data), side), data))
        return self._answer

    def end(self) -> None:
        """End the process now. `ended` is done when it is gone."""
        self._ending = True
        self.process.kill()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ARG002 (asyncio's signature)
        return self._buffer[self._got :]

    def buffer_updated(self, nbytes: int) -> None:
        self._got += nbytes
        if self._got < ANSWER.size:
            return
        outcome, length = ANSWER.unpack_from(self._buffer.data)
        if self._got == ANSWER.size + length:
            self._done(Outcome(outcome), self._buffer[ANSWER.size : self._got])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if self.ended.done():
            return
        self.process.kill()
        code = self.process.wait()
        self.ended.set_result(None)
        self._lost(self)
        self._settle(self._reason(code))
        self._printed.close()

    # What becomes of an image.

    def _expect(self, side: int) -> None:
        """Make room for an answer; the process sends nothing that it was not asked for."""
        self._side, self._got = side, 0
        self._buffer = np.empty(ANSWER.size + max(3 * side * side, LONGEST) + 1, np.uint8)  # + 1: never full
        self._answer: asyncio.Future[NDArray[np.uint8]] = asyncio.get_running_loop().create_future()

    def _done(self, outcome: Outcome, body: NDArray[np.uint8]) -> None:
        if outcome is Outcome.DECODED:
            self._settle(body.reshape(self._side, self._side, 3))
        elif outcome is Outcome.NO_MEMORY:
            self.why = "memory"
            limit = f"{self._limits.memory:,} bytes"
            self._settle(TooCostly(f"decoding it needs more memory than the limit of {limit}"))
        else:
            kind = TooManyPixels if outcome is Outcome.TOO_MANY_PIXELS else BadImage
            self._settle(kind(body.tobytes().decode(errors="replace")))
        if self.why == "crash":  # else it ends; out of time, too, though this answer was in the socket already
            self._freed(self)

    def _settle(self, result: "NDArray[np.uint8] | BadImage") -> None:
        if self._timer:
            self._timer.cancel()
        self._log_printed()
        if self._answer.done():  # the client has hung up
            return
        if isinstance(result, BadImage):
            self._answer.set_exception(result)
        else:
            self._answer.set_result(result)

    def _overrun(self) -> None:
        self.why = "time"
        self.process.kill()

    def _reason(self, code: int) -> BadImage:
        if self.why == "time":
            return TooCostly(f"decoding it takes longer than the limit of {self._limits.seconds:g} s")
        if code and not self._ending:
            log.warning("a decoder ended (%s)", signal.Signals(-code).name if code < 0 else f"exit code {code}")
        return DecoderEnded("the image cannot be decoded: the process that decoded it ended")

    def _log_printed(self) -> None:
        file = self._printed.fileno()
        try:
            if size := os.fstat(file).st_size:
                text = os.pread(file, PRINTED, 0).decode(errors="replace")
                os.ftruncate(file, 0)
                log.warning("request %s: while it decoded, %d bytes were printed: %r", self._request, size, text)
        except OSError as error:  # the answer is worth more
            log.warning("request %s: what was printed while it decoded cannot be read: %s", self._request, error)
