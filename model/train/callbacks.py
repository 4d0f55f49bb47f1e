"""Who looks on while a network trains: what is reported to them, and several of them as one."""

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
    """Is called while a network trains: a progress bar, a log."""

    def begin(self, steps: int, done: int, batch: int) -> None:
        """A run of `steps` steps goes on after `done` of them."""

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """Steps done, the last loss seen."""

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """An epoch is over; conv1's weights (N, 3, k, k), on the CPU, all columns."""

    def end(self, finished: bool) -> None:
        """The run is over, or was asked to stop."""


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
