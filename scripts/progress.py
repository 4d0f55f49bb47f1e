"""How far a long job is: a bar on a terminal, a plain line now and then anywhere else."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

__all__ = ["EVERY", "counting"]

EVERY = 10.0  # seconds between two plain lines


def counting(unit: str) -> Callable[[str, int, int], None]:
    """A function to call with (what, done, total) as often as one likes; rates count from its first call for `what`."""
    bars: dict[str, tqdm[Any]] = {}
    begun: dict[str, tuple[float, int]] = {}
    said = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal said
        if sys.stderr.isatty():
            if what not in bars:
                bars[what] = tqdm(total=total, desc=what, unit=f" {unit}", initial=done)
            bars[what].update(done - bars[what].n)
            if done == total:
                bars.pop(what).close()
            return
        now = time.monotonic()
        start, first = begun.setdefault(what, (now, done))
        if done == total or now - said >= EVERY:
            said = now
            rate = f", {(done - first) / (now - start):.0f} {unit} a second" if now > start else ""
            print(f"{what}: {done} of {total}{rate}", file=sys.stderr, flush=True)

    return report
