"""Weights as torch's modules have them and as checkpoints have them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def arrays(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Return tensors as a checkpoint holds them."""
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


def grey(side: int, value: float = 120.0) -> NDArray[np.float32]:
    """Return a mean image (side, side, 3) of one value."""
    return np.full((side, side, 3), value, np.float32)
