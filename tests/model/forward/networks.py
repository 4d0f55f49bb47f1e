"""Random networks whose activations reach the end: an engine that leaves something out gives other features."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.network.tables import Table
from model.preprocess import EmbeddingPrecision, Recipe
from tests.images import photograph

__all__ = ["assert_same", "images_of", "lively"]

CLASSES = tuple(f"class {number}" for number in range(7))


def lively(table: Table, precision: EmbeddingPrecision = "float32", seed: int = 0) -> Checkpoint:
    """Return weights of He's scale (no layer dies or explodes), biases of several sizes, and a mean image of noise.

    conv1 undoes the table's input_scale, so that response norms meet activations in the tens, where they act.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in table.shapes(len(CLASSES)).items():
        deviation = (2 / prod(shape[1:])) ** 0.5 if name.endswith("weight") else 0.5
        weights[name] = rng.standard_normal(shape, np.float32) * np.float32(deviation)
    weights["conv1.weight"] /= np.float32(table.input_scale)
    weights[f"{table.last}.weight"] /= np.float32(30)  # activations are in the tens, and softmax would give 0 and 1
    stored = table.crop + 5  # the central crop does not start where the corner's does
    mean = rng.uniform(90, 150, (stored, stored, 3)).astype(np.float32)
    return Checkpoint(table, Recipe(stored, table.crop, precision=precision), CLASSES, weights, mean)


def images_of(table: Table, count: int = 2) -> NDArray[np.uint8]:
    """Stored images (count, S, S, 3) for `lively`."""
    side = table.crop + 5
    return np.stack([photograph(side, side, seed=seed) for seed in range(count)])


def assert_same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    """Equal to 1e-5 of the largest value, and no zeros that would make this easy."""
    assert found.shape == wanted.shape
    largest = np.abs(wanted).max()
    assert np.isfinite(largest)
    assert largest > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * largest)
