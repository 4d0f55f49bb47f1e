"""What a training run is asked to be: the command line's flags, and the recipe that they make of a preset."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from model.checkpoint import Checkpoint
from model.distributed.layout import Parallel
from model.precision import Precision
from model.train.finetune import fine_tuning
from model.train.recipes import RECIPES, TrainingRecipe
from model.train.state import BadRun

__all__ = ["TrainConfig", "recipe_of"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a preset on a packed dataset."""

    data: Path = field(default=Path("data/cifar10"))  # packed dataset, from prepare_dataset.py or fetch_cifar10.py
    preset: Literal["paper", "release", "cifar", "photo"] = "cifar"  # network and recipe
    out: Path = field(default=Path("runs/cifar10"))  # folder of the run
    resume: bool = False  # go on with the run in --out; start it where there is none
    seed: int = 0  # of weights, data order, crops, colours and dropout
    epochs: int | None = None  # passes over the training images; the preset's own when not given
    batch: int | None = None  # images a step, over all replicas; the preset's own when not given
    rate: float | None = None  # learning rate before any drop; the preset's (0.01) is for a thousand classes
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N; several processes take a GPU each
    parallel: Parallel = "auto"  # how torchrun's processes share the work: columns (the paper), data, hybrid
    precision: Precision = "auto"  # auto: bf16 autocast where the device computes in it
    deterministic: bool = False  # the same bits each time on a GPU, too: not compiled, slower; a CPU gives them anyway
    save_minutes: float = 10.0  # minutes between two saves within an epoch; 0: at the end of epochs only
    keep: int = 2  # epochs whose networks are kept, beside the best and the last
    init_from: Path | None = None  # checkpoint to fine-tune, its network and its mean image, at a tenth of the rates
    freeze: tuple[str, ...] = ()  # layers (conv1 ... fc8) that keep the weights of --init-from


def recipe_of(config: TrainConfig, origin: Checkpoint | None) -> TrainingRecipe:
    """Return the preset's recipe, fitted to the checkpoint it starts from, with what the command line changes.

    Raises BadRun for numbers that cannot be met.
    """
    recipe = RECIPES[config.preset] if origin is None else fine_tuning(RECIPES[config.preset], origin)
    recipe = replace(recipe, epochs=recipe.epochs if config.epochs is None else config.epochs)
    recipe = replace(recipe, batch=recipe.batch if config.batch is None else config.batch)
    if config.rate is not None:
        if not 0 < config.rate < float("inf"):
            raise BadRun(f"--rate {config.rate}: a positive number is accepted")
        recipe = recipe.scaled(config.rate / recipe.rate)
    for name, value in (("epochs", recipe.epochs), ("batch", recipe.batch), ("keep", config.keep)):
        if value < 1:
            raise BadRun(f"--{name} {value}: at least 1 is accepted")
    if config.seed < 0 or not 0 <= config.save_minutes < float("inf"):
        raise BadRun(f"--seed {config.seed} --save-minutes {config.save_minutes}: 0 or more is accepted")
    return recipe
