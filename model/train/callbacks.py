"""What is called while a network trains, and with what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from model.evaluation import Scores
from model.train.schedule import Rates

__all__ = ["Callback", "Callbacks", "Epoch"]


@dataclass(frozen=True)
class Epoch:
    """The figures of an epoch."""

    epoch: int  # counted from 1
    step: int  # steps done
    rates: Rates  # of its last step
    loss: float  # mean over its steps, dropout on
    scores: Scores  # on the validation rows
    seconds: float  # of the run so far, over all resumes
    images_per_second: float  # of its training steps in this process
    waiting: float  # share of that time spent waiting for data


class Callback(Protocol):
    """Something that follows a training run: a progress bar, a log."""

    def begin(self, steps: int, done: int, batch: int) -> None:
        """Called once, first: `done` of the run's `steps` steps are done; `batch` images a step."""

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """Called after steps: how many are done, and the newest loss and rates."""

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """Called after each epoch. conv1: its weights (N, 3, k, k), on the CPU, all columns."""

    def end(self, finished: bool) -> None:
        """Called once, last: the run is finished, or was stopped or failed."""


class Callbacks:
    """A Callback that passes every call on to several, in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def begin(self, steps: int, done: int, batch: int) -> None:
        for callback in self.callbacks:
            callback.begin(steps, done, batch)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        for callback in self.callbacks:
            callback.step(done, loss, rates)

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        for callback in self.callbacks:
            callback.epoch(epoch, conv1)

    def end(self, finished: bool) -> None:
        for callback in self.callbacks:
            callback.end(finished)
