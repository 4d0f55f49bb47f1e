"""A run may start from another run's network: all kept but the last layer, frozen layers to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.checkpoint import BadCheckpoint, Checkpoint
from model.data.loader import Batch
from model.distributed.placement import OneProcess
from model.network.tables import Dense
from model.preprocess import Recipe
from model.train.finetune import fine_tuning, start
from model.train.recipes import CIFAR, PAPER, RELEASE, TrainingRecipe
from model.train.schedule import Rates, Stalls, schedule_of
from model.train.step import Learner
from tests.model.train.tasks import TINY, fresh, task
from tests.model.train.test_schedule import LABELS
from tests.model.weights import arrays, grey


def trained(classes: tuple[str, ...] = ("cat", "dog", "frog")) -> Checkpoint:
    """As a run would leave it, with a mean image that is not the new images'."""
    of = replace(task(), classes=classes)
    return Checkpoint(TINY, Recipe(32, 28), classes, arrays(fresh(of).weights), grey(32, 99))


def seeded(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_new_classes_get_a_new_last_layer_and_all_else_is_kept() -> None:
    before = trained()
    begun = start(before, ("across", "down"), seeded())
    assert begun.table == TINY
    np.testing.assert_array_equal(begun.mean_image, before.mean_image)
    for name, array in before.weights.items():
        assert np.array_equal(begun.weights[name], array) is not name.startswith("fc8")
    assert begun.weights["fc8.weight"].shape == (2, 16)
    assert begun.weights["fc8.bias"].tolist() == [0.0, 0.0]
    assert torch.equal(start(before, ("across", "down"), seeded()).weights["fc8.weight"], begun.weights["fc8.weight"])
    other = start(before, ("across", "down"), seeded(5)).weights["fc8.weight"]
    assert not torch.equal(other, begun.weights["fc8.weight"])
    begun.weights["conv1.weight"].zero_()
    assert np.abs(before.weights["conv1.weight"]).sum() > 0


def test_the_new_last_layer_is_drawn_as_the_table_says() -> None:
    wide = start(trained(), tuple(map(str, range(4000))), seeded()).weights["fc8.weight"]
    assert wide.std().item() == pytest.approx((2 / 16) ** 0.5, rel=0.02)
    table = replace(TINY, rows=(*TINY.rows[:-1], Dense(None, std=0.01, bias=0.5)))
    fixed = start(replace(trained(), table=table), tuple(map(str, range(4000))), seeded()).weights
    assert fixed["fc8.weight"].std().item() == pytest.approx(0.01, rel=0.02)
    assert set(fixed["fc8.bias"].tolist()) == {0.5}


def test_the_same_classes_keep_their_last_layer() -> None:
    before = trained()
    again = start(before, before.classes, seeded(), frozen=("fc8",))
    assert all(np.array_equal(again.weights[name], array) for name, array in before.weights.items())
    reordered = start(before, ("dog", "cat", "frog"), seeded())
    assert not np.array_equal(reordered.weights["fc8.weight"], before.weights["fc8.weight"])


@pytest.mark.parametrize(
    ("classes", "frozen", "message"),
    [
        (("a", "b"), ("conv9", "conv1", "fc"), "cannot freeze conv9, fc: table 'tiny' has conv1, conv2, .*, fc8"),
        (("a", "b"), ("fc8",), "cannot freeze fc8: it is new, for 2 classes"),
        (("cat", "dog", "frog"), tuple(TINY.named), "nothing to learn"),
    ],
)
def test_layers_that_cannot_be_frozen_are_named(
    classes: tuple[str, ...], frozen: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadCheckpoint, match=message):
        start(trained(), classes, seeded(), frozen)


def test_weights_of_another_table_are_refused() -> None:
    weights = {name: tensor for name, tensor in trained().weights.items() if name != "fc7.bias"}
    with pytest.raises(BadCheckpoint, match=r"fc7\.bias"):
        start(replace(trained(), weights=weights), ("a", "b"), seeded())


@pytest.mark.parametrize("recipe", [PAPER, RELEASE, CIFAR], ids=["paper", "release", "cifar"])
def test_a_trained_network_learns_at_a_tenth_of_the_rates_on_its_own_image_sizes(recipe: TrainingRecipe) -> None:
    tuned = fine_tuning(recipe, replace(trained(), recipe=Recipe(256, 227)))
    assert (tuned.stored, tuned.crop) == (256, 227)
    full, tenth = schedule_of(recipe, 100, LABELS), schedule_of(tuned, 100, LABELS)
    for step in (0, 30, 99):
        usual, tuned_rates = full.rates(step, Stalls()), tenth.rates(step, Stalls())
        assert tuned_rates.weights == pytest.approx(usual.weights / 10)
        assert tuned_rates.biases == pytest.approx(usual.biases / 10)


def test_frozen_layers_keep_their_bits_while_the_others_learn() -> None:
    begun = start(trained(), ("across", "down"), seeded(), frozen=("conv2", "conv1"))
    assert begun.frozen == ("conv1", "conv2")
    to_learn = replace(task(), mean_image=begun.mean_image, frozen=begun.frozen)
    learner = Learner(to_learn, OneProcess(torch.device("cpu")), begun.weights)
    images = torch.from_numpy(to_learn.train.images(slice(0, 16)))
    batch = Batch(images, torch.from_numpy(to_learn.train.labels[:16]))
    losses = [learner.step(batch, number, Rates(0.01, 0.01), colour=True).item() for number in range(20)]
    assert losses[-1] < losses[0]
    assert not any(name.startswith(("conv1", "conv2")) for name in learner.optimiser.momentum())
    for name, tensor in learner.weights().items():
        assert torch.equal(tensor.detach(), begun.weights[name]) is name.startswith(("conv1", "conv2"))
