"""One image gives the same features alone, in a batch, in a block, and through the trainer's own forward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.checkpoint import BadCheckpoint
from model.collection import embed_collection
from model.data.sources import Item
from model.embed import Embedder
from model.forward.torch_engine import network_of
from model.network.tables import Table
from model.preprocess import Recipe, network_input, ten_views
from tests.model.network.test_alexnet import AS_IN_2012, SMALL
from tests.model.test_checkpoint import CLASSES, made


def random_images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 18, 18, 3), dtype=np.uint8)


def assert_same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    """To 1e-5 of the largest value."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


class Collection:
    """A source of `count` images of which some cannot be read."""

    classes, size = CLASSES, 18

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.images, self.broken = random_images(count), broken

    def __len__(self) -> int:
        return len(self.images)

    def identity(self, start: int, stop: int) -> str:
        return f"images {start} to {stop}"

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        return [
            Item(i, f"{i}.png", i % 3, None, "broken")
            if i in self.broken
            else Item(i, f"{i}.png", i % 3, image, None, b"thumbnail %d" % i if thumbnails else None)
            for i, image in enumerate(self.images[start:stop], start)
        ]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(made(), "cpu")


def test_features_equal_the_trainers_forward_pass(embedder: Embedder) -> None:
    images = random_images(70)  # more than one batch
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


@pytest.mark.parametrize("block", [1, 4, 100])
def test_blocks_cover_the_collection_in_order_and_list_what_is_broken(embedder: Embedder, block: int) -> None:
    source = Collection(10, broken=(2, 8))
    blocks = list(embed_collection(embedder, source, block=block))
    assert np.concatenate([b.ids for b in blocks]).tolist() == [0, 1, 3, 4, 5, 6, 7, 9]
    assert [s for b in blocks for s in b.skipped] == [(2, "2.png", "broken"), (8, "8.png", "broken")]
    assert [(b.start, b.stop) for b in blocks] == [(i, min(i + block, 10)) for i in range(0, 10, block)]
    good = source.images[[0, 1, 3, 4, 5, 6, 7, 9]]
    np.testing.assert_allclose(np.concatenate([b.features for b in blocks]), embedder(good)[1], rtol=1e-5, atol=1e-6)
    assert [t for b in blocks for t in b.thumbnails] == [b"thumbnail %d" % i for i in (0, 1, 3, 4, 5, 6, 7, 9)]
    assert all(len(b.thumbnails) == len(b.ids) == len(b.names) == len(b.labels) for b in blocks)


def test_going_on_gives_the_same_bytes(embedder: Embedder) -> None:
    source = Collection(10)
    whole, rest = (
        list(embed_collection(embedder, source, block=4)),
        list(embed_collection(embedder, source, start=4, block=4)),
    )
    assert [b.features.tobytes() for b in whole[1:]] == [b.features.tobytes() for b in rest]
    assert list(embed_collection(embedder, source, start=10)) == []


def test_an_error_while_reading_ahead_reaches_the_caller(embedder: Embedder) -> None:
    class Failing(Collection):
        def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
            if start >= 4:
                raise OSError("the disk went away")
            return super().read(start, stop, thumbnails=thumbnails)

    blocks = embed_collection(embedder, Failing(10), block=4)
    assert next(blocks).stop == 4
    with pytest.raises(OSError, match="went away"):
        next(blocks)


def test_images_of_another_size_are_refused(embedder: Embedder) -> None:
    source = Collection(3)
    source.size = 32
    with pytest.raises(BadCheckpoint, match="images of 18 pixels, not of 32"):
        next(embed_collection(embedder, source))


def test_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="a precision of 'float16': float32 and bfloat16 are accepted"):
        Recipe(18, 16, precision="float16")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_gives_the_same_features(embedder: Embedder) -> None:
    images = random_images(70)
    for there, here in zip(Embedder(made(), "cuda")(images), embedder(images), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
