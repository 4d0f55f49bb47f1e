"""The comparison of bfloat16 with float32: recall, label agreement and accuracy as they are defined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index import exact
from model import Checkpoint, Embedder, checkpoint
from model.data.packing import pack
from model.data.rows import ArraySource
from scripts.benchmarks import precision
from scripts.benchmarks.precision import in_precision, measure, recall, shown
from scripts.benchmarks.retrieval import K
from scripts.benchmarks.settings import Precision
from tests.images import photograph
from tests.service.bundles import CLASSES, network

TRAIN, TEST = (np.stack([photograph(32, 32, seed=seed) for seed in seeds]) for seeds in (range(40), range(100, 109)))
LABELS = np.array([0, 1, 2, 2, 1, 0, 0, 2, 1])


def coarse(trained: Checkpoint) -> Checkpoint:
    """Weights of a few bits: they change neighbours more than bfloat16, which not every processor has."""
    weights = {name: np.round(weight * 16) / np.float32(16) for name, weight in trained.weights.items()}
    return replace(trained, weights=weights)


def config_of(folder: Path, classes: tuple[str, ...] = CLASSES) -> Precision:
    def source(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ArraySource:
        return ArraySource(images, labels, [str(row) for row in range(len(images))], classes, f"{labels.tolist()}")

    pack(folder / "packed", {"train": source(TRAIN, np.arange(40) % 3), "test": source(TEST, LABELS)})
    checkpoint.save(folder / "checkpoint.safetensors", network())
    return Precision(checkpoint=folder / "checkpoint.safetensors", data=folder / "packed", device="cpu")


def by_definition(trained: Checkpoint) -> tuple[NDArray[np.int64], float]:
    """Rows of the nearest training images, and top-1 accuracy."""
    embedder = Embedder(trained, "cpu")
    probabilities, queries = embedder(TEST)
    found = exact.nearest(embedder(TRAIN)[1], np.arange(40), queries, K)[1]
    return found, float((probabilities.argmax(axis=1) == LABELS).mean())


def test_the_figures_are_those_of_the_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = network()
    monkeypatch.setattr(precision, "in_precision", lambda given, name: given if name == "float32" else coarse(given))
    monkeypatch.setattr(precision, "BLOCK", 16)  # so that there are blocks, and a smaller last one
    figures = measure(config_of(tmp_path))
    (wanted, top1), (other, others_top1) = by_definition(trained), by_definition(coarse(trained))
    shared = [len(set(a) & set(b)) / K for a, b in zip(wanted.tolist(), other.tolist(), strict=True)]
    assert 0 < np.mean(shared) < 1
    assert [f.recall.value for f in figures] == pytest.approx([1, np.mean(shared)])
    agreement = [float((rows % 3 == LABELS[:, None]).mean()) for rows in (wanted, other)]
    assert [f.agreement.value for f in figures if f.agreement] == pytest.approx(agreement)
    assert [f.top1.value for f in figures if f.top1] == pytest.approx([top1, others_top1])
    assert [(f.indexed, f.held_out) for f in figures] == [(40, 9)] * 2
    assert all(f.images_per_s > 0 for f in figures)
    assert f"| {np.mean(shared):.2%} (95 %: " in shown(figures)


def test_images_of_other_classes_are_compared_by_their_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "in_precision", lambda given, _: given)
    figures = measure(config_of(tmp_path, ("a", "b", "c")))
    assert [(f.recall.value, f.agreement is None, f.top1) for f in figures] == [(1, False, None)] * 2


def test_recall_counts_neighbours_in_any_order() -> None:
    reference = np.array([[1, 2, 3], [4, 5, 6]])
    assert recall(np.array([[3, 1, 2], [6, 9, 8]]), reference).value == pytest.approx((1 + 1 / 3) / 2)


def test_the_recipe_says_the_precision() -> None:
    trained = network()
    assert [in_precision(trained, p).recipe.precision for p in precision.PRECISIONS] == ["float32", "bfloat16"]
    assert in_precision(trained, "bfloat16").weights is trained.weights
