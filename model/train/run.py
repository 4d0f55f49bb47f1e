"""From a command line's words to a run: read the dataset, check everything, make or read the state, train.

Whatever cannot work is refused here, before anything is written.
"""

import platform
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from model.checkpoint import Checkpoint, load
from model.data.packed import PackedSet
from model.data.splits import training_and_validation
from model.device import choose_device
from model.distributed.placement import Placement
from model.distributed.rendezvous import join
from model.network.alexnet import AlexNet, initialise
from model.network.tables import TABLES, Dense
from model.precision import deterministic, use_bf16
from model.provenance import commit
from model.randomness import Stream, torch_generator
from model.train.callbacks import Callbacks
from model.train.config import TrainConfig, recipe_of
from model.train.finetune import Start, start
from model.train.log import RunLog
from model.train.loop import Callback, Trainer
from model.train.recipes import TrainingRecipe
from model.train.resume import state_of_all
from model.train.run_folder import RunFolder
from model.train.saving import Every
from model.train.state import BadRun, RunProgress, State
from model.train.step import TrainingTask

__all__ = ["train"]


def train(config: TrainConfig, callback: Callback, *, stop: Callable[[], bool], log: Callable[[str], None]) -> bool:
    """Train, or go on training, in this process or in its place among torchrun's: whether the run is finished.

    False: `stop` said so and the run is saved. `tell` hears, on the main process, what a person should read. Raises
    BadRun, BadDataset, BadCheckpoint, NoSuchDevice, LayoutError and Diverged, each with one clear line.
    """
    origin = None if config.init_from is None else load(config.init_from)
    recipe = recipe_of(config, origin)
    packed, device = PackedSet.open(config.data), choose_device(config.device)
    joined = join(
        config.parallel,
        table=TABLES[config.preset] if origin is None else origin.table,
        classes=len(packed.classes),
        batch=recipe.batch,
        device=device,
        settings=asdict(config) | {"fingerprint": packed.fingerprint},
        log=log,
    )
    with deterministic(device) if config.deterministic else nullcontext(), joined as placement:
        finished, message = _train(config, recipe, origin, packed, placement, callback, stop)
        if placement.is_main:
            log(message)
        return finished


def _train(
    config: TrainConfig,
    recipe: TrainingRecipe,
    origin: Checkpoint | None,
    packed: PackedSet,
    placement: Placement,
    callback: Callback,
    stop: Callable[[], bool],
) -> tuple[bool, str]:
    """Train in this place; whether the run is finished, and what to say of it."""
    task, fresh = _task(config, recipe, origin, packed, placement)
    identity = _identity(config, task, origin, packed)
    with closing(RunFolder(config.out, identity, config.keep)) as folder:
        claim = partial(folder.claim, *_sizes(task, fresh))
        state = state_of_all(folder, placement, resume=config.resume, claim=claim)
        if folder.done():
            return True, f"trained already: {folder.final}"
        provenance = {**identity, "data_name": packed.name, **_versions()}
        trainer = Trainer(task, placement, folder, fresh if state is None else state, provenance)
        callbacks: Sequence[Callback] = [RunLog(config.out, provenance), callback] if placement.is_main else []
        if trainer.run(Callbacks(callbacks), save_now=Every(60 * config.save_minutes), stop=stop):
            return True, f"trained: {folder.final}"
        return False, f"stopped and saved: {folder.state}; --resume goes on"


def _sizes(task: TrainingTask, fresh: State) -> tuple[int, int]:
    """Bytes of a checkpoint and of a saved state."""
    weights = {name: tensor.nbytes for name, tensor in fresh.weights.items()}
    momentum = sum(size for name, size in weights.items() if name.rsplit(".", 1)[0] not in task.frozen)
    whole = sum(weights.values())
    return whole + task.mean_image.nbytes, whole + momentum


def _task(
    config: TrainConfig, recipe: TrainingRecipe, origin: Checkpoint | None, packed: PackedSet, placement: Placement
) -> tuple[TrainingTask, State]:
    """What is to be learned, and step 0. Raises BadRun, BadDataset and BadCheckpoint for what cannot be."""
    if packed.size != recipe.stored:
        taker = f"preset {config.preset!r}" if origin is None else config.init_from
        raise BadRun(
            f"{packed.path} holds {packed.size} x {packed.size} images, {taker} takes "
            f"{recipe.stored} x {recipe.stored}: pack them with --size {recipe.stored}"
        )
    learn, validate = training_and_validation(packed)
    if len(learn) < recipe.batch:
        raise BadRun(
            f"{packed.path}: {len(learn)} training images are fewer than a batch of {recipe.batch}; see --batch"
        )
    begun = _begun(config, packed.classes, origin)
    task = TrainingTask(
        table=begun.table if begun else TABLES[config.preset],
        recipe=recipe,
        classes=packed.classes,
        train=learn,
        validation=validate,
        mean_image=begun.mean_image.numpy() if begun else packed.mean_image,
        pca=packed.pca,
        seed=config.seed,
        bf16=use_bf16(config.precision, placement.device),
        frozen=begun.frozen if begun else (),
    )
    return task, State(RunProgress(), begun.weights, {}) if begun else _fresh(task, config.seed)


def _begun(config: TrainConfig, classes: tuple[str, ...], origin: Checkpoint | None) -> Start | None:
    """What --init-from gives. Raises BadRun and BadCheckpoint for layers that cannot be frozen."""
    if origin is None:
        if config.freeze:
            raise BadRun("--freeze keeps a checkpoint's weights: name it with --init-from")
        return None
    return start(origin, classes, torch_generator(config.seed, Stream.WEIGHTS), config.freeze)


def _identity(config: TrainConfig, task: TrainingTask, origin: Checkpoint | None, packed: PackedSet) -> dict[str, Any]:
    """What makes a run this run; a resume must have the same."""
    return {
        "preset": config.preset,
        "recipe": asdict(task.recipe),
        "data": packed.fingerprint,
        "seed": config.seed,
        "deterministic": config.deterministic,
        "precision": "bf16" if task.bf16 else "fp32",
        "init_from": None if origin is None else origin.fingerprints(),
        "frozen": list(task.frozen),
        # None is also what older states hold, from when "train" was the only scaling: `paper` does not go on from them.
        "scaling": "test" if any(isinstance(row, Dense) and row.scaling == "test" for row in task.table.rows) else None,
    }


def _fresh(task: TrainingTask, seed: int) -> State:
    """Step 0: the same weights on every kind of machine."""
    network = initialise(AlexNet(task.table, len(task.classes)), torch_generator(seed, Stream.WEIGHTS))
    return State(RunProgress(), {name: tensor.detach() for name, tensor in network.named_parameters()}, {})


def _versions() -> dict[str, str | None]:
    """What the run was made with."""
    return {
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
