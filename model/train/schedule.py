"""The learning rate at every step: as the paper steered it, as the release automated it, and one cycle for short runs.

A schedule is a frozen value. What it remembers of validation errors is a `Stalls` value, which is saved with the
training state. The rate at a step is a pure function of the two, so a resumed run has the same rates.
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

    def after(self, error: float, patience: int, learned: float) -> "Stalls":
        """Return what to remember after one more epoch with this validation error.

        `patience` epochs in a row without a lower error are a stall, which is a drop. Epochs count only after an error
        below `learned` was seen (see `clearly_below_chance`).
        """
        if error < self.best:
            return Stalls(error, 0, self.drops)
        if not self.best < learned:
            return self
        if self.waited + 1 < patience:
            return Stalls(self.best, self.waited + 1, self.drops)
        return Stalls(self.best, 0, self.drops + 1)


class Schedule(Protocol):
    """Rates by step. A schedule that is fixed in advance ignores `stalls`."""

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """Rates of step `step`, counted from 0."""

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        """Return what to remember after an epoch that ended with this validation error."""

    def ended(self, stalls: Stalls) -> bool:
        """Return True when the run should end now, before its last epoch."""


class _Fixed:
    """A schedule that is fixed in advance: validation errors do not change it."""

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        del error
        return stalls

    def ended(self, stalls: Stalls) -> bool:
        del stalls
        return False


@dataclass(frozen=True)
class Plateau:
    """Divide by ten when validation error stops improving, `drops` times; the next stall ends the run (section 5).

    `paper` guesses for its first thousands of steps: its loss stays near ln(classes). That is no reason to lower the
    rate, so a stall counts only after an error below `learned` was seen.
    """

    rate: float
    bias_rate: float
    drops: int
    patience: int
    learned: float

    def rates(self, step: int, stalls: Stalls) -> Rates:
        del step
        rate = self.rate / 10 ** min(stalls.drops, self.drops)
        return Rates(rate, rate * self.bias_rate)

    def observe(self, stalls: Stalls, error: float) -> Stalls:
        return stalls.after(error, self.patience, self.learned)

    def ended(self, stalls: Stalls) -> bool:
        return stalls.drops > self.drops


@dataclass(frozen=True)
class Levels(_Fixed):
    """Equal parts of the run at fixed rates, in a list for weights and one for biases (release's "dexp": 4 and 2)."""

    weights: tuple[float, ...]
    biases: tuple[float, ...]
    steps: int

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """Return the level of the part that `step` is in; after the end, the last level."""
        del stalls
        return Rates(self._at(self.weights, step), self._at(self.biases, step))

    def _at(self, levels: tuple[float, ...], step: int) -> float:
        return levels[min(step * len(levels) // self.steps, len(levels) - 1)]


@dataclass(frozen=True)
class OneCycle(_Fixed):
    """A straight line up to `rate` over the first quarter of the run, and another down to almost 0 at the last step."""

    rate: float
    bias_rate: float
    steps: int
    warm: float = 0.25  # share of the run that rises

    def rates(self, step: int, stalls: Stalls) -> Rates:
        """Return a rate above 0, so that every step changes the weights; the highest is at the end of the rise."""
        del stalls
        top = self.warm * self.steps
        share = (step + 1) / top if step + 1 <= top else (self.steps - step) / (self.steps - top + 1)
        rate = self.rate * min(1.0, max(share, 0.0))
        return Rates(rate, rate * self.bias_rate)


def clearly_below_chance(labels: NDArray[np.int64]) -> float:
    """Return the validation error below which a network has learned something, for validation labels (n,), n >= 1.

    A network that always names the most frequent class is right on `hits` of the n images; with equally frequent
    classes, hits = n / classes. A network that guesses is right about as often, with a standard deviation of
    sqrt(hits (1 - hits / n)). It does not reach five standard deviations and two images more. The two images matter
    where n / classes is small. If this is more than n, there are too few images to tell learning from luck: the result
    is below 0, and no error is lower.
    """
    images = len(labels)
    hits = int(np.unique_counts(labels).counts.max())
    return 1 - (hits + 5 * math.sqrt(hits * (1 - hits / images)) + 2) / images


def schedule_of(recipe: TrainingRecipe, steps: int, labels: NDArray[np.int64]) -> Schedule:
    """Return the recipe's schedule for a run of `steps` steps (>= 1), validated on images with these labels (n,)."""
    if recipe.schedule == "plateau":
        learned = clearly_below_chance(labels)
        return Plateau(recipe.rate, recipe.bias_rate, recipe.drops, recipe.patience, learned)
    if recipe.schedule == "one_cycle":
        return OneCycle(recipe.rate, recipe.bias_rate, steps)
    if recipe.schedule == "dexp":
        return Levels(recipe.levels, recipe.bias_levels, steps)
    return Levels((recipe.rate,), (recipe.rate * recipe.bias_rate,), steps)
