"""torch's engine on a GPU: one image goes through a captured CUDA graph, and gives what a batch gives."""

from typing import Any

import numpy as np
import pytest
import torch

from model.embed import Embedder
from model.network.tables import CIFAR
from tests.model.forward.networks import assert_same, images_of, lively

TOLERANCE = {"float32": 1e-5, "bfloat16": (8 * 3) ** 0.5 * 2**-9}  # of the largest; test_openvino_engine.py says why


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_single_images_give_the_rows_of_their_batch_and_their_results_stay(precision: Any) -> None:
    """The second and third image are replays, which write where the first one's results were."""
    images = images_of(CIFAR, 3)
    embedder = Embedder(lively(CIFAR, precision), "cuda")
    alone = [embedder(image[None]) for image in images]
    for found, wanted in zip(zip(*alone, strict=True), embedder(images), strict=True):
        atol = TOLERANCE[precision] * np.abs(wanted).max()
        np.testing.assert_allclose(np.concatenate(found), wanted, rtol=0, atol=atol)
    features = embedder(images[:1])[1]
    np.testing.assert_array_equal(features, alone[0][1])  # the same bits, after others
    assert np.abs(alone[0][1] - alone[1][1]).max() > 0.1 * features.max()


@pytest.mark.gpu
def test_a_capture_is_float32_and_not_tf32() -> None:
    """A replay repeats the kernels that were captured, so what the process allows later cannot change them."""
    image = images_of(CIFAR, 1)
    assert_same(Embedder(lively(CIFAR), "cuda")(image)[1], Embedder(lively(CIFAR), "cpu", "torch")(image)[1])


@pytest.mark.gpu(2)
def test_each_gpu_captures_for_itself() -> None:
    """torch's own stream for captures is on the first GPU that captured."""
    image = images_of(CIFAR, 1)
    first, second = (Embedder(lively(CIFAR), f"cuda:{number}") for number in range(2))
    for embedder in (first, second, first, second):
        assert_same(embedder(image)[1], Embedder(lively(CIFAR), "cpu", "torch")(image)[1])


@pytest.mark.gpu
def test_a_capture_stands_other_work_on_the_gpu() -> None:
    """Two networks, each with a graph of its own, answering in turn while memory is allocated and freed."""
    images = images_of(CIFAR, 2)
    networks = [Embedder(lively(CIFAR, seed=seed), "cuda") for seed in range(2)]
    wanted = [network(images)[1] for network in networks]
    for row in (0, 1, 0, 1):
        for network, features in zip(networks, wanted, strict=True):
            filled = torch.full((1 << 22,), torch.nan, device="cuda")
            assert_same(network(images[row : row + 1])[1], features[row : row + 1])
            del filled
