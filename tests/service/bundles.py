"""A small real bundle: class folders of images, one of them broken, embedded by an untrained network 4096 wide."""

from collections.abc import Callable
from pathlib import Path

import torch

from index.layout import Layout, MapKind
from index.store import Bundle
from model import checkpoint
from model.checkpoint import Checkpoint
from model.data.folders import folder_source
from model.embed import Embedder
from model.network.alexnet import AlexNet, initialise
from model.network.tables import Conv, Dense, Table
from model.preprocess import Recipe
from scripts.indexing import growing
from tests.images import encoded, photograph
from tests.model.weights import arrays, grey

CLASSES = ("cat", "dog", "frog")
EACH = 10  # images in a class; image 10 i + j is image j of class i
BROKEN = 12  # this one cannot be read
TABLE = Table(
    name="tiny",
    crop=28,
    rows=(
        Conv(4, kernel=3, padding=1, sees="image", then=("relu", "norm", "pool"), std=None),
        Conv(4, kernel=3, padding=1, std=None, then=("relu", "pool")),
        Dense(16, std=None),
        Dense(4096, std=None),
        Dense(None, std=None),
    ),
    input_scale=1 / 60,
)


def image_file(image_id: int) -> bytes:
    """Return the file of image `image_id`."""
    data = encoded(photograph(32, 32, seed=image_id))
    return data[:200] if image_id == BROKEN else data


def network(seed: int = 0) -> Checkpoint:
    """Return an untrained network."""
    drawn = initialise(AlexNet(TABLE, len(CLASSES)), torch.Generator().manual_seed(seed))
    return Checkpoint(TABLE, Recipe(stored=32, crop=28), CLASSES, arrays(drawn.state_dict()), grey(32), {})


def in_class_folders(image_id: int) -> str:
    """Return the relative path of an image with a label."""
    return f"{CLASSES[image_id // EACH]}/{image_id:04}.png"


def build(folder: Path, name: Callable[[int], str] = in_class_folders, kind: MapKind = "none") -> Path:
    """Write images, checkpoint and bundle under `folder`, and return the bundle's path. The names sort by image id."""
    for image_id in range(EACH * len(CLASSES)):
        file = folder / "images" / name(image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_file(image_id))
    checkpoint.save(folder / "checkpoint.safetensors", network())
    embedder, source = Embedder(network(), "cpu"), folder_source(folder / "images", 32)
    file, bundle = folder / "checkpoint.safetensors", Bundle(folder / "bundle")
    growing.build(embedder, source, "images", bundle, file, lambda *_: None, Layout(map=kind)).close()
    return bundle.path


def rebuilt(bundle: Path, images: Path, trained: Checkpoint) -> None:
    """Publish a generation of the same images, whose features another network has made."""
    source, file = folder_source(images, 32), bundle / "another.safetensors"
    checkpoint.save(file, trained)
    growing.build(Embedder(trained, "cpu"), source, "images", Bundle(bundle), file, lambda *_: None).close()
