"""A small synthetic collection with random features, for the tests of the store and their child processes.

Run as a program it builds a bundle, as the batch job does, and may kill itself on the way (see kill_at):
python -m tests.index.blocks BUNDLE CHECKPOINT CALLS SECONDS
"""

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import Building, Bundle, Generation

TOTAL, WIDTH, BLOCK = 230, 48, 10
CLASSES = ("cat", "dog", "frog")
INPUTS = {"weights": "w" * 64, "recipe": "r" * 64}


@dataclass(frozen=True)
class Embedded:
    """A block, as model.collection makes them."""

    start: int
    stop: int
    ids: NDArray[np.int64]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    features: NDArray[np.float32]
    thumbnails: tuple[bytes, ...]
    skipped: tuple[tuple[int, str, str], ...]
    identity: str


def identity(start: int, stop: int) -> str:
    """Return what images start ... stop - 1 are."""
    return f"images {start} to {stop}"


def block(start: int, stop: int, width: int = WIDTH, lost: int = 7) -> Embedded:
    """Return images start ... stop - 1; every `lost`-th could not be read, every fifth has the label -1."""
    ids = np.array([i for i in range(start, stop) if i % lost], np.int64)
    rng = np.random.default_rng([start, stop])
    return Embedded(
        start,
        stop,
        ids,
        tuple(f"{CLASSES[i % 3]}/{i:04}.png" for i in ids),
        np.array([i % 3 if i % 5 else -1 for i in ids], np.int64),
        rng.standard_normal((len(ids), width), dtype=np.float32),
        tuple(b"thumbnail %d" % i * 40 for i in ids),
        tuple((i, f"{CLASSES[i % 3]}/{i:04}.png", "truncated") for i in range(start, stop) if i % lost == 0),
        identity(start, stop),
    )


def blocks(start: int = 0, total: int = TOTAL) -> Iterator[Embedded]:
    """Yield the collection's blocks from image `start` on."""
    for first in range(start, total, BLOCK):
        yield block(first, min(first + BLOCK, total))


def begun(path: Path, checkpoint: Path, inputs: dict[str, str] = INPUTS, total: int = TOTAL) -> Building:
    """Begin, or continue, a build of the collection's first `total` images."""
    return Bundle(path).begin(
        inputs, checkpoint, total=total, identity=identity, width=WIDTH, engine="torch", classes=CLASSES
    )


def build(path: Path, checkpoint: Path, inputs: dict[str, str] = INPUTS, total: int = TOTAL) -> Generation:
    """Begin, or continue, a build and publish it."""
    with begun(path, checkpoint, inputs, total) as building:
        for embedded in blocks(building.done, total):
            building.append(embedded)
        return building.publish()


def contents(generation: Generation) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on how often the build was killed."""
    return {file.name: file.read_bytes() for file in generation.path.iterdir() if file.name != "manifest.json"}


def kill_at(calls: int, seconds: float) -> None:
    """Let the kernel end this process, as kill -9 does, `seconds` after its `calls`-th call of any function."""
    left = calls

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            sys.setprofile(None)
            signal.setitimer(signal.ITIMER_REAL, seconds)  # nothing handles SIGALRM, so it ends the process

    sys.setprofile(count)


if __name__ == "__main__":
    kill_at(int(sys.argv[3]), float(sys.argv[4]))
    build(Path(sys.argv[1]), Path(sys.argv[2])).close()
