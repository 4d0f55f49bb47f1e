"""One image gives the same features alone, in a batch, and through the trainer's own forward pass."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import embed
from model.embed import Embedder
from model.forward.openvino_engine import OpenvinoForward
from model.forward.torch_engine import network_of
from model.network.tables import Table
from model.preprocess import Recipe, network_input, ten_views
from tests.model.network.test_alexnet import AS_IN_2012, SMALL
from tests.model.test_checkpoint import made


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 18, 18, 3), dtype=np.uint8)


def assert_same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    """To 1e-5 of the largest value."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(made(), "cpu")


def test_features_equal_the_trainers_forward_pass(embedder: Embedder) -> None:
    images = random_images(70)
    probabilities, features = embedder(images)
    checkpoint = made()
    x = network_input(torch.from_numpy(images), torch.from_numpy(checkpoint.mean_image), 16)
    with torch.no_grad():
        logits, embedding = network_of(checkpoint)(x)
    assert_same(features, embedding.numpy())
    assert_same(probabilities, logits.softmax(1).numpy())
    assert features.dtype == np.float32
    assert features.flags.c_contiguous


@pytest.mark.parametrize("table", [SMALL, AS_IN_2012], ids=lambda table: table.name)
def test_the_last_layer_alone_gives_the_same_probabilities(table: Table) -> None:
    embedder = Embedder(made(table), "cpu")
    probabilities, features = embedder(random_images(5))
    np.testing.assert_allclose(embedder.probabilities_of(features), probabilities, rtol=1e-5)


def test_the_features_are_the_same_whichever_way_dropout_is_made_up_for() -> None:
    """fc5 reads half, so with weights twice as large it gives the same features, and they are not halved."""
    doubled = {name: weight * 2 if name == "fc5.weight" else weight for name, weight in made().weights.items()}
    twice, images = replace(made(AS_IN_2012), weights=doubled), random_images(5)
    np.testing.assert_array_equal(Embedder(twice, "cpu")(images)[1], Embedder(made(), "cpu")(images)[1])


def test_ten_views_average_the_softmax(embedder: Embedder) -> None:
    images = random_images(3)
    checkpoint = made()
    views = ten_views(torch.from_numpy(images), torch.from_numpy(checkpoint.mean_image), 16)
    with torch.no_grad():
        expected = torch.stack([network_of(checkpoint)(view)[0].softmax(1) for view in views])
    assert len(expected) == 10
    assert_same(embedder.ten_views(images), expected.mean(0).numpy())


def test_many_images_are_several_passes_with_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, images = Embedder(made(), "cpu"), random_images(37)
    probabilities, features = embedder(images)
    views, passes, infer = embedder.ten_views(images), list[int](), OpenvinoForward.__call__

    def counted(forward: OpenvinoForward, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        passes.append(len(x))
        return infer(forward, x)

    monkeypatch.setattr(OpenvinoForward, "__call__", counted)
    monkeypatch.setattr(embed, "PIXELS", {"cpu": 16 * 16**2})  # 16 images in a pass
    for found, wanted in zip(embedder(images), (probabilities, features), strict=True):
        assert_same(found, wanted)
    assert_same(embedder.ten_views(images[:3]), views[:3])
    assert passes == [16, 16, 5, 10, 10, 10]


def test_large_logits_are_certain_and_do_not_overflow() -> None:
    weights = {name: weight * np.float32(1e4 if name == "fc5.weight" else 1) for name, weight in made().weights.items()}
    probabilities, _ = Embedder(replace(made(), weights=weights), "cpu")(random_images(3))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="a precision of 'float16': float32 and bfloat16 are accepted"):
        Recipe(18, 16, precision="float16")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_gives_the_same_features(embedder: Embedder) -> None:
    images = random_images(70)
    for there, here in zip(Embedder(made(), "cuda")(images), embedder(images), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("crop", "batch"), [(28, 256), (112, 256), (224, 64), (1024, 4)])
def test_a_pass_on_a_cpu_has_as_many_images_as_its_caches_like(embedder: Embedder, crop: int, batch: int) -> None:
    of_that_crop = copy(embedder)
    of_that_crop.recipe = Recipe(crop, crop)
    assert of_that_crop.batch == batch
