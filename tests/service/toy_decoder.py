"""A decoder process whose decoding does what the bytes say. Started as service/decoder.py is."""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from model.preprocess import BadImage
from service.decoder import run


def decode(data: bytes, side: int) -> NDArray[np.uint8]:
    """b"5": an image of fives. b"sleep": decode for ever. b"take": more memory than there is. b"print": 100 kB."""
    match data:
        case b"sleep":
            time.sleep(600)
        case b"take":
            bytearray(1 << 40)
        case b"print":
            sys.stderr.write("\n\x1b[31m" + 100_000 * "x")
            sys.stderr.flush()
        case b"break":
            raise RuntimeError("a fault of the decoder itself")
        case b"":
            raise BadImage("nothing")
    return np.full((side, side, 3), int(data) if data.isdigit() else 0, np.uint8)


if __name__ == "__main__":
    connection, memory, seconds, _ = sys.argv[1:]
    run(decode, int(connection), int(memory), float(seconds))
