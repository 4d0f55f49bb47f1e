"""A network and a dataset small enough to train in a test: eight layers, two columns, stripes."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.loader import Rows
from model.network.alexnet import AlexNet, initialise
from model.network.tables import CIFAR, Conv, Table
from model.train.recipes import CIFAR as CIFAR_RECIPE
from model.train.recipes import TrainingRecipe
from model.train.state import RunProgress, State
from model.train.step import TrainingTask

__all__ = ["TINY", "Stripes", "fresh", "task"]

TINY = replace(
    CIFAR,
    name="tiny",
    rows=tuple(
        replace(row, channels=8) if isinstance(row, Conv) else row if row.units is None else replace(row, units=16)
        for row in CIFAR.rows
    ),
)


class Stripes:
    """Class c is an image of stripes in direction c, in noise: learned in a few dozen steps."""

    def __init__(self, count: int, classes: int = 2, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.labels = (np.arange(count) % classes).astype(np.int64)
        angle = self.labels * np.pi / classes
        y, x = np.mgrid[:32, :32]
        wave = np.sin((np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y) * 0.8)
        noisy = 128 + 60 * wave[..., None] + random.normal(0, 20, (count, 32, 32, 3))
        self.pixels = noisy.clip(0, 255).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8 (b, 32, 32, 3)."""
        images = np.array(self.pixels[rows])
        if out is None:
            return images
        out[:] = images
        return out


def task(recipe: TrainingRecipe | None = None, *, table: Table = TINY, seed: int = 0) -> TrainingTask:
    """Stripes in two directions: 104 to learn from, in six and a half batches of 16."""
    train = Stripes(104)
    return TrainingTask(
        table=table,
        recipe=recipe or replace(CIFAR_RECIPE, batch=16, epochs=3, colour="stdev", colour_off=1 / 3),
        classes=("across", "down"),
        train=train,
        validation=Stripes(30, seed=1),
        mean_image=train.pixels.mean(axis=0).astype(np.float32),
        pca=(np.array([900.0, 90.0, 9.0]), np.eye(3)),
        seed=seed,
        bf16=False,
    )


def fresh(of: TrainingTask) -> State:
    """Step 0."""
    network = initialise(AlexNet(of.table, len(of.classes)), torch.Generator().manual_seed(of.seed))
    weights: dict[str, Tensor] = {name: tensor.detach() for name, tensor in network.named_parameters()}
    return State(RunProgress(), weights, {})
