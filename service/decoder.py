"""A decoder: the program of the processes that decode. It reads images from a socket, and answers with pixels.

The C libraries that decode a stranger's file run here and nowhere else in the service. Neither the network nor the
index is in this process, and no file is open but the socket and its standard error.
"""

import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import BadImage, TooManyPixels, stored_image

__all__ = ["ANSWER", "ASKED", "LONGEST", "Outcome", "run"]

ASKED = struct.Struct("<QI")  # bytes of the file that follows, side of the stored image
ANSWER = struct.Struct("<BQ")  # Outcome, bytes of the pixels or of the error's text (UTF-8) that follow
LONGEST = 1000  # bytes of an error's text
PRINTS = 64_000  # bytes that may be written to standard error between two images; the next ones get an error
SPARE = 1.0  # seconds that this process gives the service to end it, before it ends itself

Decode = Callable[[bytes, int], NDArray[np.uint8]]


class Outcome(IntEnum):
    """What became of an image."""

    DECODED = 0
    BAD_IMAGE = 1
    TOO_MANY_PIXELS = 2
    NO_MEMORY = 3  # the last answer of this process: memory that a library has lost is given back


def run(decode: Decode, connection: int, memory: int, seconds: float) -> None:
    """Say on a socket, a file descriptor, that all is ready, then decode what comes until its other end is closed.

    memory: bytes of address space beyond what is in use now. seconds: for one image; the service ends a process that
    takes longer, and one whose service is gone ends itself.
    """
    _confine(memory)
    with socket.socket(fileno=connection) as answers, answers.makefile("rb") as asked:
        answers.sendall(ANSWER.pack(Outcome.DECODED, 0))
        while len(header := asked.read(ASKED.size)) == ASKED.size:
            length, side = ASKED.unpack(header)
            data = asked.read(length)
            signal.setitimer(signal.ITIMER_REAL, seconds + SPARE)
            outcome, body = _decoded(decode, data, side)
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.sendall(b"".join((ANSWER.pack(outcome, len(body)), body)))
            if outcome is Outcome.NO_MEMORY:
                return


def _decoded(decode: Decode, data: bytes, side: int) -> tuple[Outcome, bytes | memoryview]:
    try:
        return Outcome.DECODED, decode(data, side).data.cast("B")
    except TooManyPixels as error:
        return Outcome.TOO_MANY_PIXELS, _text(error)
    except BadImage as error:
        return Outcome.BAD_IMAGE, _text(error)
    except MemoryError:
        return Outcome.NO_MEMORY, b""


def _text(error: BadImage) -> bytes:
    return str(error).encode(errors="replace")[:LONGEST]


def _confine(memory: int) -> None:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)
    _limit(resource.RLIMIT_FSIZE, PRINTS)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def main(connection: str, memory: str, seconds: str, max_pixels: str) -> None:
    Image.init()  # all of Pillow's formats, before the memory in use is measured
    run(
        lambda data, side: stored_image(data, side, max_pixels=int(max_pixels)),
        int(connection),
        int(memory),
        float(seconds),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
