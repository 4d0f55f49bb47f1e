"""What every form of the service benchmark is given: a network, an index that it made, and requests."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.checkpoint import Checkpoint, save
from model.preprocess import Recipe
from model.train.recipes import RECIPES
from scripts.benchmarks.forward import checkpoint_of
from scripts.benchmarks.settings import Forward, Service
from scripts.command import Refused
from scripts.load import photographs
from scripts.load.connection import post
from scripts.load.server import environment

__all__ = ["Inputs", "prepared"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Inputs:
    """Files, and the photographs that clients send."""

    checkpoint: Path
    bundle: Path
    photographs: tuple[bytes, ...]

    def requests(self, path: str) -> list[bytes]:
        return [post(path, data) for data in self.photographs]


def prepared(config: Service, folder: Path) -> Inputs:
    """Write into `folder` what is not given, and index it by the command that users run. Raises Refused, BadDataset."""
    images, checkpoint, bundle = config.images, config.checkpoint, folder / "bundle"
    if images is None:
        images = folder / "images"
        photographs.write(images, config.indexed)
    asked = photographs.mirrored(images, config.photographs, config.kilobytes)
    if checkpoint is None:
        checkpoint = folder / "checkpoint.safetensors"
        save(checkpoint, untrained(config))
    flags = ["--checkpoint", str(checkpoint), "--images", str(images), "--bundle", str(bundle)]
    command = [sys.executable, "scripts/build_index.py", *flags]
    built = subprocess.run(command, cwd=ROOT, env=environment(), stdout=sys.stderr, check=False)
    if built.returncode:
        raise Refused("scripts/build_index.py has failed")
    return Inputs(checkpoint, bundle, tuple(asked))


def untrained(config: Service) -> Checkpoint:
    """Return the preset's network with weights as in He et al. 2015: speed does not depend on what it has learnt."""
    drawn = checkpoint_of(Forward(preset=config.preset))
    stored = RECIPES[config.preset].stored
    mean = np.full((stored, stored, 3), 120, np.float32)
    return replace(drawn, recipe=Recipe(stored, drawn.recipe.crop), mean_image=mean)
