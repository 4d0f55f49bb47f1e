"""How each preset is trained. Every difference between the paper's text and the 2012 code is a named setting.

The network itself is a table in network/tables.py; this is the other half of a preset. Numbers are the paper's
(section 5) unless a comment says so.
"""

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["RECIPES", "Colour", "ScheduleName", "TrainingRecipe"]

ScheduleName = Literal["constant", "plateau", "dexp", "one_cycle"]
Colour = Literal["none", "eigenvalue", "stdev"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """What the training of a preset needs besides the table and the data."""

    stored: int = 256  # pixels on a side of a stored image
    crop: int = 224  # pixels on a side of a network input
    batch: int = 128  # images a step, over all replicas
    epochs: int = 90
    rate: float = 0.01  # learning rate of weights, before any drop
    momentum: float = 0.9
    decay: float = 0.0005  # weight decay; multiplied by the rate inside the velocity
    bias_rate: float = 1.0  # rate of biases / rate of weights
    bias_decay: float = 1.0  # decay of biases / decay of weights
    schedule: ScheduleName = "plateau"
    drops: int = 3  # plateau: how often the rate is divided by ten before a stall ends the run
    patience: int = 3  # plateau: epochs in a row without a lower validation error that are a stall
    levels: tuple[float, ...] = ()  # dexp: rate of weights in equal parts of the run
    bias_levels: tuple[float, ...] = ()  # dexp: rate of biases in equal parts of the run
    crop_chunk: int = 1  # images that share one crop and mirror
    inclusive_crops: bool = False  # False: m x m offsets for a margin of m pixels (32 x 32); True: (m + 1) x (m + 1)
    colour: Colour = "eigenvalue"  # section 4.1's noise; augment.py has both conventions
    colour_off: float = 0.0  # last share of the epochs that is trained without colour noise

    def coloured(self, epoch: int) -> bool:
        """Return True when epoch `epoch`, counted from 0, has colour noise."""
        return self.colour != "none" and epoch < round(self.epochs * (1 - self.colour_off))

    def scaled(self, factor: float) -> "TrainingRecipe":
        """Return a copy with every learning rate multiplied by `factor`."""
        return replace(
            self,
            rate=self.rate * factor,
            levels=tuple(level * factor for level in self.levels),
            bias_levels=tuple(level * factor for level in self.bias_levels),
        )


# Section 4.1 counts 32 x 32 x 2 crops. Its noise is 0.1 x eigenvalue, which is small only for pixels in [0, 1].
PAPER = TrainingRecipe()

# The 2012 code: biases learn twice as fast and do not decay, one crop per 32 images, noise by standard deviation. Its
# hands-off schedule (late 2012, "dexp") matched the runs steered by hand: 42.3 % centre-view error on the 2012
# validation images.
RELEASE = TrainingRecipe(
    bias_rate=2.0,
    bias_decay=0.0,
    schedule="dexp",
    levels=(0.01, 0.00159, 0.00025, 0.00004),
    bias_levels=(0.02, 0.002),
    crop_chunk=32,
    inclusive_crops=True,
    colour="stdev",
    colour_off=25 / 90,
)

# 32 x 32 photographs in minutes on two cores: a modern schedule, the same optimiser, the same 7/8 crop.
CIFAR = TrainingRecipe(
    stored=32,
    crop=28,
    epochs=6,
    rate=0.03,
    schedule="one_cycle",
    inclusive_crops=True,
    colour="none",
)

# Photographs at half the paper's side, in minutes on two cores: small batches give few epochs more steps.
PHOTO = TrainingRecipe(
    stored=128,
    crop=112,
    batch=64,
    epochs=12,
    rate=0.02,
    schedule="one_cycle",
    inclusive_crops=True,
    colour="none",
)

RECIPES = {"paper": PAPER, "release": RELEASE, "cifar": CIFAR, "photo": PHOTO}
