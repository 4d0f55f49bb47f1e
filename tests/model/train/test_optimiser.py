"""The fused update is section 5's formula: against float64 by hand, and against torch.optim.SGD where the two agree."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.train.optimiser import SGD
from model.train.recipes import PAPER, RELEASE, TrainingRecipe
from model.train.schedule import Rates

RATE = st.floats(1e-6, 1.0)


def parameters(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A channels_last convolution, a bias and a matrix."""
    generator = torch.Generator().manual_seed(seed)
    convolution = torch.randn(4, 3, 5, 5, generator=generator, dtype=dtype).to(memory_format=torch.channels_last)
    return {
        "conv1.weight": convolution,
        "conv1.bias": torch.randn(4, generator=generator, dtype=dtype),
        "fc8.weight": torch.randn(6, 7, generator=generator, dtype=dtype),
    }


def gradients(named: dict[str, Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():  # plain layout on purpose: backward does not promise channels_last
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def by_hand(rates: list[Rates], recipe: TrainingRecipe) -> dict[str, np.ndarray]:
    """Section 5 as it is written, in float64."""
    named = parameters()
    w = {name: tensor.double().numpy().copy() for name, tensor in named.items()}
    v = {name: np.zeros_like(array) for name, array in w.items()}
    for step, rate in enumerate(rates):
        gradients(named, step)
        for name in w:
            bias = name.endswith("bias")
            eps = rate.biases if bias else rate.weights
            decay = recipe.decay * (recipe.bias_decay if bias else 1.0)
            grad = named[name].grad
            assert grad is not None
            v[name] = recipe.momentum * v[name] - decay * eps * w[name] - eps * grad.double().numpy()
            w[name] = w[name] + v[name]
    return w


@settings(max_examples=25, deadline=None)
@given(rates=st.lists(st.builds(Rates, RATE, RATE), min_size=1, max_size=12))
@pytest.mark.parametrize("recipe", [PAPER, RELEASE])
def test_equal_to_the_formula_at_any_sequence_of_rates(recipe: TrainingRecipe, rates: list[Rates]) -> None:
    named = parameters()
    optimiser = SGD(named, recipe)
    for step, rate in enumerate(rates):
        gradients(named, step)
        optimiser.step(rate)
    for name, expected in by_hand(rates, recipe).items():
        np.testing.assert_allclose(named[name].numpy(), expected, rtol=2e-5, atol=2e-5)


def test_equal_to_torch_at_a_constant_rate_and_different_after_a_drop() -> None:
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    optimiser = SGD(ours, PAPER)
    torch_sgd = torch.optim.SGD(theirs.values(), lr=0.01, momentum=0.9, weight_decay=0.0005)

    def step(number: int, rate: float) -> None:
        gradients(ours, number)
        gradients(theirs, number)
        optimiser.step(Rates(rate, rate))
        torch_sgd.param_groups[0]["lr"] = rate
        torch_sgd.step()

    for number in range(20):
        step(number, 0.01)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-7)
    before = ours["fc8.weight"].clone()
    velocity = -0.01 * optimiser.momentum()["fc8.weight"]
    step(20, 0.001)
    # The paper's velocity keeps its size over a drop: nine tenths of it is still in the next move, torch's shrinks
    # tenfold.
    assert torch.dist(ours["fc8.weight"] - before, 0.9 * velocity) < 0.1 * velocity.norm()
    assert torch.dist(theirs["fc8.weight"] - before, 0.9 * velocity) > 0.5 * velocity.norm()


def test_restore_continues_to_the_same_bits() -> None:
    whole, half = parameters(), parameters()
    straight, first = SGD(whole, PAPER), SGD(half, PAPER)
    rates = [Rates(0.1, 0.2)] * 3 + [Rates(0.01, 0.03)] * 3
    for step, rate in enumerate(rates):
        gradients(whole, step)
        straight.step(rate)
        gradients(half, step)
        if step == 3:  # at the drop: the buffers alone do not say in which rate they count
            saved = {name: tensor.clone() for name, tensor in first.momentum().items()}
            first = SGD(half, PAPER)
            first.restore(saved, rates[2])
        first.step(rate)
    for name, tensor in whole.items():
        assert torch.equal(tensor, half[name])


def test_a_missing_gradient_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"conv1\.weight has no gradient"):
        SGD(parameters(), PAPER).step(Rates(0.1, 0.1))
