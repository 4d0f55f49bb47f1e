"""Who looks on while a network trains: several at once, and a person at a terminal."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from torch import Tensor
from tqdm import tqdm

from model.train.loop import Callback, Epoch
from model.train.schedule import Rates

__all__ = ["Callbacks", "ConsoleLogger", "Stopping", "stopping"]

EVERY = 30.0  # seconds between two plain lines


class Callbacks:
    """Several as one."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def begin(self, steps: int, done: int, batch: int) -> None:
        """See Callback."""
        for callback in self.callbacks:
            callback.begin(steps, done, batch)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """See Callback."""
        for callback in self.callbacks:
            callback.step(done, loss, rates)

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """See Callback."""
        for callback in self.callbacks:
            callback.epoch(epoch, conv1)

    def end(self, finished: bool) -> None:
        """See Callback."""
        for callback in self.callbacks:
            callback.end(finished)


class ConsoleLogger:
    """A progress bar on a terminal, a plain line now and then anywhere else, and a line an epoch on both."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self.stream = stream
        self.bar: tqdm[Any] | None = None
        self.batch = self.steps = self.done = 0
        self.logged = 0.0  # when, and at which step, the last plain line was
        self.logged_at = 0

    def begin(self, steps: int, done: int, batch: int) -> None:
        """Say where the run starts."""
        self.steps, self.done, self.batch = steps, done, batch
        self.logged, self.logged_at = time.monotonic(), done
        if done:
            self.log(f"going on after step {done} of {steps}")
        if self.stream.isatty():
            total, initial = steps * batch, done * batch
            self.bar = tqdm(
                total=total, initial=initial, unit=" img", unit_scale=True, file=self.stream, smoothing=0.05
            )

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """Move the bar; without one, a line when it is time."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rates.weights:.2g}", refresh=False)
            self.bar.update((done - self.done) * self.batch)
        elif (now := time.monotonic()) - self.logged >= EVERY:
            speed = (done - self.logged_at) * self.batch / (now - self.logged)
            left = (self.steps - done) * self.batch / speed
            self.log(f"step {done} of {self.steps}: loss {loss:.3f}, {speed:.0f} img/s, {left:.0f} s left")
            self.logged, self.logged_at = now, done
        self.done = done

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """One line."""
        del conv1
        scores = epoch.scores
        self.log(
            f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, validation {scores.loss.value:.3f}, "
            f"top-1 {100 * scores.top1.value:.2f} %, top-5 {100 * scores.top5.value:.2f} %, "
            f"rate {epoch.rates.weights:.2g}, {epoch.images_per_second:.0f} img/s, {epoch.seconds:.0f} s"
        )

    def end(self, finished: bool) -> None:
        """Leave the terminal as it was."""
        del finished
        if self.bar is not None:
            self.bar.close()

    def log(self, line: str) -> None:
        """One line, beside the bar."""
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            self.stream.write(line + "\n")
            self.stream.flush()


class Stopping:
    """Remembers that a signal asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether one did."""
        return self.signal is not None

    def asked(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler; a second Ctrl-C does not wait for a save."""
        del frame
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stopping]:
    """While inside, SIGTERM and Ctrl-C only ask: the step in hand is finished and the state saved."""
    stop = Stopping()
    before = {number: signal.signal(number, stop.asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
