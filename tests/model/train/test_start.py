"""A fresh `paper` network learns: the published failure is a loss that stays at ln(classes)."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from model.distributed.placement import OneProcess
from model.network.alexnet import initialise
from model.network.tables import PAPER
from model.preprocess import network_input
from model.train.optimiser import SGD
from model.train.recipes import RECIPES
from model.train.schedule import Rates


def photographs(count: int) -> NDArray[np.uint8]:
    """uint8 (count, 256, 256, 3): pieces of the photograph that matplotlib ships."""
    photograph = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    random = np.random.default_rng(0)
    pieces = []
    for _ in range(count):
        side = int(random.integers(100, 256))
        left, top = (int(random.integers(0, length - side)) for length in photograph.size)
        piece = photograph.resize((256, 256), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        pieces.append(np.asarray(piece))
    return np.stack(pieces)


@pytest.mark.slow
def test_the_loss_of_a_fresh_paper_network_falls_on_a_small_real_batch() -> None:
    """Trained with dropout, judged without, every fifth step. Raw pixel scale is what keeps biases of 1 from drowning
    the image; eight images, four classes."""
    images, labels = torch.from_numpy(photographs(8)), torch.arange(8) % 4
    x = network_input(images, images.float().mean(0), PAPER.crop)
    place = OneProcess(torch.device("cpu"))
    network = place.network(PAPER, 4)
    initialise(network, torch.Generator().manual_seed(0))
    sgd = SGD(dict(network.named_parameters()), RECIPES["paper"])
    losses = []
    for step in range(100):
        masks = place.masks(PAPER, seed=0, step=step, batch=8)
        F.cross_entropy(network(x, masks)[0], labels).backward()  # type: ignore[no-untyped-call]
        # Less than half of the paper's rate: four classes share the gradient that a thousand would.
        sgd.step(Rates(0.004, 0.004))
        if step % 5 == 4:
            with torch.inference_mode():
                losses.append(F.cross_entropy(network(x)[0], labels).item())
            if losses[-1] < math.log(4) / 2:
                return
    pytest.fail(f"the loss of the test pass stays near ln 4: {losses}")
