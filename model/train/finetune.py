"""Fine-tuning: training that starts from another run's network, with a new last layer.

The checkpoint's table, mean image, stored size and crop are kept, because its weights expect them. The recipe's rates
are divided by ten.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import BadCheckpoint, Checkpoint
from model.network.alexnet import initialise_layer
from model.network.tables import Table
from model.train.recipes import TrainingRecipe

__all__ = ["Start", "fine_tuning", "start"]


@dataclass(frozen=True)
class Start:
    """What a fine-tuning run begins with."""

    table: Table
    weights: dict[str, Tensor]  # the one-process form, the run's own copies
    mean_image: NDArray[np.float32]  # (S, S, 3): the checkpoint's, not the new images'
    frozen: tuple[str, ...]  # names of layers that keep their weights, in the table's order


def start(
    checkpoint: Checkpoint, classes: tuple[str, ...], generator: torch.Generator, frozen: Collection[str] = ()
) -> Start:
    """Return the checkpoint's network for `classes`: its weights, with a last layer that is drawn anew.

    The last layer is kept as well when the classes are the checkpoint's own, in its order. frozen: names of layers that
    will not learn. Raises BadCheckpoint for weights that are not their table's and for layers that cannot be frozen.
    """
    checkpoint.check_weights()
    table = checkpoint.table
    last, anew = table.last, classes != checkpoint.classes
    unknown = sorted({*frozen} - {*table.named})
    if unknown:
        raise BadCheckpoint(f"cannot freeze {', '.join(unknown)}: table {table.name!r} has {', '.join(table.named)}")
    if anew and last in frozen:
        raise BadCheckpoint(
            f"cannot freeze {last}: it is new, for {len(classes)} classes that are not the checkpoint's"
        )
    if {*frozen} == {*table.named}:
        raise BadCheckpoint("every layer is frozen: there is nothing to learn")
    weights = {name: torch.tensor(array) for name, array in checkpoint.weights.items()}  # copies
    if anew:
        weight, bias = torch.empty(len(classes), table.width), torch.empty(len(classes))
        initialise_layer(table.rows[-1], weight, bias, generator)
        weights[f"{last}.weight"], weights[f"{last}.bias"] = weight, bias
    return Start(table, weights, checkpoint.mean_image, tuple(name for name in table.named if name in frozen))


def fine_tuning(recipe: TrainingRecipe, checkpoint: Checkpoint) -> TrainingRecipe:
    """Return `recipe` for a network that is trained already: with its image sizes, and a tenth of every rate.

    The 2012 code's fine-tuned network (146) began with 0.001, where training from the start begins with 0.01.
    """
    return replace(recipe.scaled(0.1), stored=checkpoint.recipe.stored, crop=checkpoint.recipe.crop)
