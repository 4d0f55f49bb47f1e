"""Where every random number of a run comes from: a generator for (seed, stream, key).

Each use of a run's seed has a stream of its own, so that no two of them draw the same numbers. The key is what the
draw is for (an epoch, a step, a layer), so any process or resumed run draws the same numbers for it.
"""

from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "numpy_generator", "torch_generator"]


class Stream(IntEnum):
    """What is drawn. A number may never change: a resumed run would draw others than it began with."""

    ORDER = 0  # of the training images in an epoch
    AUGMENTATION = 1
    DROPOUT = 2
    WEIGHTS = 3


def numpy_generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """NumPy's generator for (seed, stream, key), all >= 0. Keys of a stream have one length: (1,) equals (1, 0)."""
    return np.random.default_rng([seed, stream, *key])


def torch_generator(seed: int, stream: Stream, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator on `device` for (seed, stream, key). A CPU and a GPU draw different numbers from it."""
    folded = np.random.SeedSequence([seed, stream, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(folded) >> 1)  # manual_seed takes 63 bits
