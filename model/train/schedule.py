"""The learning rate at every step: as the paper steered it, as the release automated it, and one cycle for short runs.

A schedule is a frozen value; what a schedule has seen (validation errors) is a `Stalls` value that travels in the
resume state, so the rate at a step is a pure function of both and a resumed run cannot drift.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.train.recipes import TrainingRecipe

__all__ = ["Levels", "OneCycle", "Plateau", "Rates", "Schedule", "Stalls", "clearly_below_chance", "schedule_of"]


@dataclass(frozen=True)
class Rates:
    """Learning rates of one step."""

    weights: float
    biases: float


@dataclass(frozen=True)
class Stalls:
    """What `plateau` remembers between epochs."""

    best: float = math.inf  # lowest validation error so far
    waited: int = 0  # epochs without a lower one that count towards a stall
    drops: int = 0  # stalls so far: times that the rate was divided

    def after(self, error: float, patience: int, learned: float = math.inf) -> "Stalls":
        """The value after one more epoch with this validation error. The `patience`-th epoch of a stall is a drop.

        Nothing counts before an error below `learned` was seen (see `clearly_below_chance`).
        """
        if error < self.best:
            return Stalls(error, 0, self.drops)
        if not self.best < learned:
            return self
        if self.waited + 1 < patience:
            return Stalls(self.best, self.waited + 1, self.drops)
        return Stalls(self.best, 0, self.drops + 1)


class Schedule(Protocol):
    """Rates by step; `stalls` is ignored by schedules that are fixed in advance."""

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """Rates of step `step`, counted from 0."""

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        """What to remember after an epoch that ended with this validation error."""

    def ended(self, stalls: Stalls) -> bool:
        """Whether the run is over before its last epoch."""


class _Fixed:
    """Known in advance: validation changes nothing."""

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        """Nothing to remember."""
        del error
        return stalls

    def ended(self, stalls: Stalls) -> bool:
        """Never early."""
        del stalls
        return False


@dataclass(frozen=True)
class Plateau:
    """Divide by ten when validation error stops improving, `drops` times; the next stall ends the run (section 5).

    `paper` starts with a long plateau at chance, which is no reason to lower the rate: its loss stays near ln(classes)
    for thousands of steps. A stall counts only after an error below `learned` was seen.
    """

    rate: float
    bias_rate: float
    drops: int
    patience: int
    learned: float

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """The base rate divided by ten per drop so far."""
        del step
        rate = self.rate / 10 ** min(stalls.drops, self.drops)
        return Rates(rate, rate * self.bias_rate)

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        """Count the epochs without improvement."""
        return stalls.after(error, self.patience, self.learned)

    def ended(self, stalls: Stalls) -> bool:
        """One stall more than there are drops."""
        return stalls.drops > self.drops


@dataclass(frozen=True)
class Levels(_Fixed):
    """Equal parts of the run at fixed rates; weights and biases have a list each (the release's "dexp": 4 and 2)."""

    weights: tuple[float, ...]
    biases: tuple[float, ...]
    steps: int

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """The level that `step` falls into; the last one from the end on."""
        del stalls
        return Rates(self._at(self.weights, step), self._at(self.biases, step))

    def _at(self, levels: tuple[float, ...], step: int) -> float:
        return levels[min(step * len(levels) // self.steps, len(levels) - 1)]


@dataclass(frozen=True)
class OneCycle(_Fixed):
    """Up in a straight line to `rate` over the first quarter, down in another to nearly nothing at the last step."""

    rate: float
    bias_rate: float
    steps: int
    warm: float = 0.25  # share of the run that rises

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """Highest at the end of the rise; never 0, so no step is lost."""
        del stalls
        top = self.warm * self.steps
        share = (step + 1) / top if step + 1 <= top else (self.steps - step) / (self.steps - top + 1)
        rate = self.rate * min(1.0, max(share, 0.0))
        return Rates(rate, rate * self.bias_rate)


def clearly_below_chance(labels: NDArray[np.int64]) -> float:
    """The validation error below which a network has learned something, for validation labels (n,), n >= 1.

    Always naming the most frequent class is right on `hits` of the n images (1 / classes of them where all classes are
    as frequent). A random guess is right about as often, with a standard deviation of sqrt(hits (1 - hits / n)).
    Five standard deviations and two images more are out of its reach, also where `hits` is below 1. So few images that
    this is more than n cannot tell learning from luck: the result is below 0, and no error is lower.
    """
    images = len(labels)
    hits = int(np.unique_counts(labels).counts.max())
    return 1 - (hits + 5 * math.sqrt(hits * (1 - hits / images)) + 2) / images


def schedule_of(recipe: TrainingRecipe, steps: int, labels: NDArray[np.int64]) -> Schedule:
    """The recipe's schedule for a run of `steps` (>= 1) steps in all, validated on images with these labels (n,)."""
    if recipe.schedule == "plateau":
        learned = clearly_below_chance(labels)
        return Plateau(recipe.rate, recipe.bias_rate, recipe.drops, recipe.patience, learned)
    if recipe.schedule == "one_cycle":
        return OneCycle(recipe.rate, recipe.bias_rate, steps)
    if recipe.schedule == "dexp":
        return Levels(recipe.levels, recipe.bias_levels, steps)
    return Levels((recipe.rate,), (recipe.rate * recipe.bias_rate,), steps)
