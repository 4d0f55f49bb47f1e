"""Reports training to a person, at a terminal or in a log file."""

import sys
from typing import TextIO

from torch import Tensor

from model.progress import Meter
from model.train.callbacks import Epoch
from model.train.schedule import Rates

__all__ = ["ConsoleLogger"]


class ConsoleLogger:
    """A Callback: progress in images, and a line an epoch."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self.stream = stream
        self.batch = 0
        self.meter: Meter | None = None

    def begin(self, steps: int, done: int, batch: int) -> None:
        """Say where the run starts."""
        if done:
            self.log(f"going on after step {done} of {steps}")
        self.batch = batch
        self.meter = Meter("training", steps * batch, "images", done=done * batch, stream=self.stream)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """Show the images seen, the loss and the rate."""
        assert self.meter is not None
        self.meter.show(done * self.batch, f"loss {loss:.3f}, rate {rates.weights:.2g}")

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """Write the epoch's figures."""
        del conv1
        scores = epoch.scores
        self.log(
            f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, validation {scores.loss.value:.3f}, "
            f"top-1 {100 * scores.top1.value:.2f} %, top-5 {100 * scores.top5.value:.2f} %, "
            f"rate {epoch.rates.weights:.2g}, {epoch.images_per_second:.0f} img/s, {epoch.seconds:.0f} s"
        )

    def end(self, finished: bool) -> None:
        """Close the bar; what comes after is written without it."""
        del finished
        if self.meter is not None:
            self.meter.close()
            self.meter = None

    def log(self, line: str) -> None:
        """Write a line, beside the bar where there is one."""
        if self.meter is not None:
            self.meter.say(line)
        else:
            self.stream.write(line + "\n")
            self.stream.flush()
