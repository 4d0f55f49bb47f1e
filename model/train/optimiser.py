"""Section 5's update, with the rate inside the velocity: v <- m v - d eps w - eps g;  w <- w + v.

torch.optim.SGD keeps the rate outside: b <- m b + g + d w;  w <- w - eps b. Its b is -v / eps, so the paper's update
is torch's with the momentum m eps' / eps, eps' being the rate of the step before. At a constant rate that is m. At a
drop of the rate the old velocity keeps its size and dies out over some ten steps; with plain m it would shrink at once.
Biases may have their own rate and decay (the release).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.train.recipes import TrainingRecipe
from model.train.schedule import Rates

__all__ = ["SGD"]


class SGD:
    """The paper's stochastic gradient descent over named parameters, by torch's fused kernel.

    A name that ends in "bias" takes the bias rate and decay.
    """

    def __init__(self, parameters: Mapping[str, Tensor], recipe: TrainingRecipe) -> None:
        self.parameters = dict(parameters)
        self._factor = recipe.momentum
        weights = [name for name in self.parameters if not name.endswith("bias")]
        biases = [name for name in self.parameters if name.endswith("bias")]
        decays = {"weights": recipe.decay, "biases": recipe.decay * recipe.bias_decay}
        self._sgd = torch.optim.SGD(
            [
                {"params": [self.parameters[name] for name in names], "weight_decay": decays[kind], "kind": kind}
                for kind, names in (("weights", weights), ("biases", biases))
                if names
            ],
            momentum=recipe.momentum,
            fused=True,
        )
        # Made here: the kernel would make them in the layout of the first gradient.
        for parameter in self.parameters.values():
            self._sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, rates: Rates) -> None:
        """Update every parameter from its `.grad`, which is None afterwards. Both rates are above 0."""
        for name, parameter in self.parameters.items():
            parameter.grad = _gradient(name, parameter)
        for group in self._sgd.param_groups:
            rate = getattr(rates, group["kind"])
            # Before the first step b is 0, so that the group's rate before it does not matter.
            group["lr"], group["momentum"] = rate, self._factor * (group["lr"] / rate)
        self._sgd.step()
        self._sgd.zero_grad()

    def momentum(self) -> dict[str, Tensor]:
        """Return b by parameter name, the live tensors. A resume needs them and the rates of the last step."""
        return {name: self._sgd.state[parameter]["momentum_buffer"] for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def restore(self, momentum: Mapping[str, Tensor], rates: Rates) -> None:
        """Go on after a step that was made with `rates` and left these buffers."""
        for name, tensor in self.momentum().items():
            tensor.copy_(momentum[name])
        for group in self._sgd.param_groups:
            group["lr"] = getattr(rates, group["kind"])


def _gradient(name: str, parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError(f"{name} has no gradient: backward() must run before step()")
    # The kernel walks parameter, gradient and buffer side by side in memory.
    if parameter.grad.stride() != parameter.stride():
        return torch.empty_like(parameter).copy_(parameter.grad)
    return parameter.grad
