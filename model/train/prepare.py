"""What a run learns, what it starts from and what makes it this run. Whatever cannot be learned is refused here."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

import torch

from model.checkpoint import Checkpoint
from model.data.loader import Dataset
from model.data.packed import PackedSet
from model.data.splits import training_and_validation
from model.network.alexnet import AlexNet, initialise
from model.network.tables import TABLES
from model.precision import use_bf16
from model.provenance import commit
from model.randomness import Stream, torch_generator
from model.train.config import TrainConfig
from model.train.finetune import Start
from model.train.finetune import start as start_from
from model.train.recipes import TrainingRecipe
from model.train.state import BadRun, Json, RunProgress, State
from model.train.step import TrainingTask

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A run that can start."""

    task: TrainingTask
    start: State  # step 0
    identity: Json  # what a resume must repeat
    provenance: Json  # what its checkpoints say of it
    redrawn: str | None  # the layer of --init-from that is drawn anew, for other classes

    @property
    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint, but for its description."""
        return sum(tensor.nbytes for tensor in self.start.weights.values()) + self.task.mean_image.nbytes

    @property
    def state_bytes(self) -> int:
        """Size of a saved state, but for its description: weights, and a momentum buffer of each that learns."""
        return sum(tensor.nbytes * (1 + self.task.learns(name)) for name, tensor in self.start.weights.items())


def prepare(
    config: TrainConfig, recipe: TrainingRecipe, origin: Checkpoint | None, packed: PackedSet, device: torch.device
) -> Prepared:
    """Make the task and its first state. `origin` is the checkpoint of --init-from.

    Raises BadRun, BadDataset and BadCheckpoint for what cannot be learned.
    """
    taker = f"preset {config.preset!r}" if origin is None else str(config.init_from)
    learn, validate = _splits(packed, recipe, taker)
    begun = _begun(config, packed.classes, origin)
    task = TrainingTask(
        table=begun.table if begun else TABLES[config.preset],
        recipe=recipe,
        classes=packed.classes,
        train=learn,
        validation=validate,
        mean_image=begun.mean_image if begun else packed.mean_image,
        pca=packed.pca,
        seed=config.seed,
        bf16=use_bf16(config.precision, device),
        frozen=begun.frozen if begun else (),
    )
    start = State(RunProgress(), begun.weights, {}) if begun else _fresh(task, config.seed)
    redrawn = origin is not None and packed.classes != origin.classes
    same = _identity(config, task, origin, packed)
    return Prepared(
        task=task,
        start=start,
        identity=same,
        provenance={**same, "data_name": packed.name, **_versions()},
        redrawn=task.table.last if redrawn else None,
    )


def _splits(packed: PackedSet, recipe: TrainingRecipe, taker: str) -> tuple[Dataset, Dataset]:
    """Return the images to learn from and those to validate on; `taker` is what takes images of the recipe's size."""
    if packed.size != recipe.stored:
        raise BadRun(
            f"{packed.path} holds {packed.size} x {packed.size} images, {taker} takes "
            f"{recipe.stored} x {recipe.stored}: pack them with --size {recipe.stored}"
        )
    learn, validate = training_and_validation(packed)
    if len(learn) < recipe.batch:
        raise BadRun(
            f"{packed.path}: {len(learn)} training images are fewer than a batch of {recipe.batch}; see --batch"
        )
    return learn, validate


def _begun(config: TrainConfig, classes: tuple[str, ...], origin: Checkpoint | None) -> Start | None:
    """Take what --init-from gives. Raises BadRun and BadCheckpoint for layers that cannot be frozen."""
    if origin is None:
        if config.freeze:
            raise BadRun("--freeze keeps a checkpoint's weights: name it with --init-from")
        return None
    return start_from(origin, classes, torch_generator(config.seed, Stream.WEIGHTS), config.freeze)


def _identity(config: TrainConfig, task: TrainingTask, origin: Checkpoint | None, packed: PackedSet) -> dict[str, Any]:
    """Return what makes a run this run; a resume must have the same."""
    return {
        "preset": config.preset,
        "recipe": asdict(task.recipe),
        "data": packed.fingerprint,
        "seed": config.seed,
        "deterministic": config.deterministic,
        "precision": "bf16" if task.bf16 else "fp32",
        "init_from": None if origin is None else origin.fingerprints(),
        "frozen": list(task.frozen),
    }


def _fresh(task: TrainingTask, seed: int) -> State:
    """Return step 0: the same weights on every kind of machine."""
    network = initialise(AlexNet(task.table, len(task.classes)), torch_generator(seed, Stream.WEIGHTS))
    return State(RunProgress(), {name: tensor.detach() for name, tensor in network.named_parameters()}, {})


def _versions() -> dict[str, str | None]:
    return {"commit": commit(), "torch": torch.__version__, "python": platform.python_version()}
