"""Section 5's update, with the rate inside the velocity: v <- m v - d eps w - eps g;  w <- w + v.

torch.optim.SGD keeps the rate outside. The two are equal at a constant rate and differ at a drop: here the old
velocity keeps its size and dies out over some ten steps, there it shrinks at once. Biases may have their own rate and
decay (the release), layers may be frozen (rate 0, nothing is done).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.train.recipes import TrainingRecipe
from model.train.schedule import Rates

__all__ = ["SGD"]


@dataclass(frozen=True)
class _Group:
    """Parameters with the same rate and the same decay."""

    names: tuple[str, ...]
    biases: bool
    decay: float


class SGD:
    """The paper's stochastic gradient descent over named parameters; one fused pass over a group's memory a step.

    A name that ends in "bias" takes the bias rate and decay. `frozen` names layers ("conv1") that are left as they are.
    """

    def __init__(self, parameters: Mapping[str, Tensor], recipe: TrainingRecipe, frozen: Collection[str] = ()) -> None:
        trained = [name for name in parameters if name.rsplit(".", 1)[0] not in frozen]
        weights = tuple(name for name in trained if not name.endswith("bias"))
        biases = tuple(name for name in trained if name.endswith("bias"))
        self.parameters = {name: parameters[name] for name in trained}
        self.momentum = recipe.momentum
        self.groups = [
            _Group(weights, False, recipe.decay),
            _Group(biases, True, recipe.decay * recipe.bias_decay),
        ]
        # The kernel subtracts its buffer, so what is kept is -v.
        self._minus_v = {
            name: torch.zeros_like(parameter, memory_format=torch.preserve_format)
            for name, parameter in self.parameters.items()
        }

    @torch.no_grad()
    def step(self, rates: Rates) -> None:
        """Update every parameter from its `.grad`, which is consumed: it holds no gradient afterwards."""
        for group in self.groups:
            if group.names:
                self._update(group, rates.biases if group.biases else rates.weights)
        for parameter in self.parameters.values():
            parameter.grad = None

    def _update(self, group: _Group, rate: float) -> None:
        parameters = [self.parameters[name] for name in group.names]
        gradients = [_gradient(name, self.parameters[name]) for name in group.names]
        # SGD's own kernel at rate 1: its loss-scale divisor, 1 / eps, puts eps on the gradient, and the decay carries
        # its own, so the buffer is the paper's velocity, not torch's.
        torch._fused_sgd_(
            parameters,
            gradients,
            [self._minus_v[name] for name in group.names],
            weight_decay=group.decay * rate,
            momentum=self.momentum,
            lr=1.0,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=torch.full((), 1 / rate, dtype=torch.float32, device=parameters[0].device),
            found_inf=None,
        )

    def velocity(self) -> dict[str, Tensor]:
        """-v by parameter name: what a resume needs, the live tensors."""
        return self._minus_v

    @torch.no_grad()
    def restore(self, velocity: Mapping[str, Tensor]) -> None:
        """Take back what `velocity` gave."""
        for name, tensor in self._minus_v.items():
            tensor.copy_(velocity[name])


def _gradient(name: str, parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError(f"{name} has no gradient: backward() must run before step()")
    # The kernel walks parameter, gradient and buffer side by side in memory.
    if parameter.grad.stride() != parameter.stride():
        return torch.empty_like(parameter).copy_(parameter.grad)
    return parameter.grad
