"""How far a long job is: a bar on a terminal, a plain line now and then anywhere else."""

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["Meter", "counting"]

EVERY = 10.0  # seconds between two plain lines


class Meter:
    """One job of `total` units, 0 where that is not known, `done` of them before it began."""

    def __init__(self, what: str, total: int, unit: str, *, done: int = 0, stream: TextIO | None = None) -> None:
        """stream: stderr when not given."""
        self.what, self.total, self.unit, self.first = what, total, unit, done
        self.stream = sys.stderr if stream is None else stream
        self.begun = self.logged = time.monotonic()
        self.bar: tqdm[Any] | None = None
        if self.stream.isatty():
            self.bar = tqdm(
                total=total or None, initial=done, desc=what, unit=f" {unit}", file=self.stream, smoothing=0.05
            )

    def show(self, done: int, note: str = "") -> None:
        """Move the bar to `done` units; without one, write a line when it is time and when all is done."""
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(done - self.bar.n)
        elif done == self.total or time.monotonic() - self.logged >= EVERY:
            self.logged = time.monotonic()
            of = f" of {self.total}" if self.total else f" {self.unit}"
            parts = [f"{self.what}: {done}{of}", *self._speed(done), *([note] if note else [])]
            self.say(", ".join(parts))

    def say(self, line: str) -> None:
        """Write a line, beside the bar."""
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            self.stream.write(line + "\n")
            self.stream.flush()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.close()

    def _speed(self, done: int) -> list[str]:
        seconds = self.logged - self.begun
        if seconds <= 0 or done <= self.first:
            return []
        rate = (done - self.first) / seconds
        left = [f"{(self.total - done) / rate:.0f} s left"] if done < self.total else []
        return [f"{rate:.0f} {self.unit} a second", *left]


def counting(unit: str) -> Callable[[str, int, int], None]:
    """Return a function to call with (what, done, total) as often as one likes; each `what` has a meter of its own."""
    meters: dict[str, Meter] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in meters:
            meters[what] = Meter(what, total, unit, done=done)
        meters[what].show(done)
        if done == total:
            meters.pop(what).close()

    return report
