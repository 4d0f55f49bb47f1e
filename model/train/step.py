"""One process's network in training: a step (augment, forward, backward, update) and a validation.

It knows no files and no epochs. The weights, the optimiser's state and the number of a step determine what it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.data.loader import Batch, Dataset, read
from model.distributed.placement import Placement
from model.evaluation import Scores, Tally
from model.network.tables import Table
from model.precision import full_float32
from model.preprocess import network_input
from model.train.augment import augment, colour_basis, draw
from model.train.optimiser import SGD
from model.train.recipes import TrainingRecipe
from model.train.schedule import Rates

__all__ = ["Learner", "TrainingTask"]

VALIDATION_BATCH = 512  # images


@dataclass(frozen=True)
class TrainingTask:
    """Network, data and recipe of a run, the same on every process."""

    table: Table
    recipe: TrainingRecipe
    classes: tuple[str, ...]
    train: Dataset
    validation: Dataset
    mean_image: NDArray[np.float32]  # (S, S, 3)
    pca: tuple[NDArray[np.float64], NDArray[np.float64]]
    seed: int
    bf16: bool  # arithmetic of training in bfloat16 where it is safe, weights in float32; validation is float32
    frozen: tuple[str, ...] = ()  # layers that keep their weights

    def learns(self, name: str) -> bool:
        """Return whether the parameter `name`, "conv1.weight" say, is of a layer that is not frozen."""
        return name.rsplit(".", 1)[0] not in self.frozen

    @property
    def steps_an_epoch(self) -> int:
        """Whole batches in an epoch. The rows that are left over differ from epoch to epoch."""
        return len(self.train) // self.recipe.batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_an_epoch * self.recipe.epochs


class Learner:
    """The network, its optimiser and what they need on the device."""

    def __init__(self, task: TrainingTask, placement: Placement, weights: Mapping[str, Tensor]) -> None:
        """weights: in the one-process form; each process takes its part."""
        self.task, self.placement = task, placement
        self.device = placement.device
        self.network = placement.network(task.table, len(task.classes))
        self.network.load_state_dict(placement.share(weights))
        parameters = dict(self.network.named_parameters())
        for name, parameter in parameters.items():
            parameter.requires_grad_(task.learns(name))
        self.optimiser = SGD({name: p for name, p in parameters.items() if p.requires_grad}, task.recipe)
        self.mean = torch.from_numpy(task.mean_image).to(self.device)
        self.basis = colour_basis(task.recipe, task.pca).to(self.device)
        self.rows = placement.rows(task.recipe.batch)

    def step(self, batch: Batch, number: int, rates: Rates, *, colour: bool) -> Tensor:
        """Train on this replica's part of the batch of step `number`. Return its mean loss before the update, on the
        device, as a float32 scalar."""
        recipe = self.task.recipe
        augmentation = draw(self.task.seed, number, recipe.batch, recipe, colour=colour).rows(self.rows)
        images = augment(batch.images, augmentation, self.mean, self.basis, recipe)
        masks = self.placement.masks(self.task.table, seed=self.task.seed, step=number, batch=recipe.batch)
        with full_float32():  # where autocast does not ask for bfloat16
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.task.bf16):
                logits, _ = self.network(images, masks)
            loss = F.cross_entropy(logits.float(), batch.labels)
            # The objective is the sum over the processes of one network.
            (loss / self.placement.columns).backward()  # type: ignore[no-untyped-call]
        self.placement.average_gradients()
        self.optimiser.step(rates)
        return loss.detach()

    def scores(self) -> Scores:
        """Return top-1, top-5 and loss on the validation images, central crop, in float32; equal on all processes."""
        validation, tally = self.task.validation, Tally()
        size, replicas = self.task.recipe.stored, self.placement.replicas
        # Equal parts, so that every replica has as many batches, and as many images in each, to within one.
        parts = np.array_split(np.arange(len(validation)), -(-len(validation) // (VALIDATION_BATCH * replicas)))
        mine = [part[self.placement.replica :: replicas] for part in parts]
        with torch.inference_mode(), full_float32():
            for batch in read(validation, mine, size, self.device):
                logits, _ = self.network(network_input(batch.images, self.mean, self.task.recipe.crop))
                tally.add(logits.softmax(dim=1), batch.labels)
        tally.sums = self.placement.total(tally.sums)
        return tally.scores()

    def weights(self) -> dict[str, Tensor]:
        """Return this process's parameters by name, the live tensors."""
        return dict(self.network.named_parameters())
