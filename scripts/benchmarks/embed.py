"""The batch job in turn with its parts: what of the forward pass alone is left when all else runs beside it."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from index import Bundle
from model import checkpoint
from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint
from model.collection import embed_collection
from model.data.folders import open_source
from model.data.sources import Source
from model.device import choose_device
from model.embed import Embedder
from model.forward.torch_engine import network_of
from model.network.alexnet import AlexNet, initialise
from model.network.tables import TABLES
from model.preprocess import Recipe
from model.train.recipes import RECIPES
from scripts.benchmarks.settings import Embed, check_positive
from scripts.benchmarks.timing import Timing, Work, in_turn, table
from scripts.benchmarks.train import Plain
from scripts.command import Refused
from scripts.indexing.growing import build

FORWARD, DECODE = "forward pass alone", "decode alone"
PACKED, BUNDLE = "embed, packed dataset", "embed, packed dataset, publish"
FILES, FOLDER = "embed, image files", "ImageFolder + DataLoader + plain torch, float32"
LARGE = 50_000  # images, CIFAR-10's: from there on what a bundle costs once does not count
CLASSES = tuple(f"class {number}" for number in range(10))  # of a network of random weights


@dataclass(frozen=True)
class Share:
    """One form's figures."""

    form: str
    images: int  # in each round
    images_per_s: float  # in the median round
    fastest_s: float
    slowest_s: float
    of: str = "-"  # what its rate is compared with
    ratio: float | None = None  # its rate, divided by that
    target: float | None = None  # of the ratio, at least


def measure(config: Embed) -> list[Share]:
    """Time every form, in turn. Raises BadCheckpoint, BadDataset, NoSuchDevice, NoSuchEngine, Refused."""
    check_positive(config, "count", "rounds")
    keep_freed_memory()  # as scripts/build_index.py does
    trained = _network(config)
    embedder = Embedder(trained, config.device, config.engine)
    source = first(open_source(config.data, embedder.recipe.stored), config.count)
    with tempfile.TemporaryDirectory(dir=config.data.parent, prefix="benchmark-") as scratch:
        named = packed_forms(source, embedder, Path(scratch))
        if config.images:
            named |= file_forms(config, embedder, config.images)
        return shares(in_turn(named, config.rounds))


def first(source: Source, count: int) -> Source:
    """The first `count` images of a collection."""
    return source if count >= len(source) else source.subset(range(count))


def packed_forms(source: Source, embedder: Embedder, scratch: Path) -> dict[str, Work]:
    """From a packed dataset; each round's bundle is a folder in `scratch`."""
    images = np.stack([item.image for item in source.read(0, len(source)) if item.image is not None])
    saved, numbers = scratch / "checkpoint.safetensors", count()
    checkpoint.save(saved, embedder.checkpoint)

    def published() -> int:
        build(embedder, source, "images", Bundle(scratch / str(next(numbers))), saved, lambda *_: None).close()
        return len(source)

    return {
        FORWARD: lambda: forward(embedder, images),
        PACKED: lambda: embedded(embedder, source),
        BUNDLE: published,
    }


def file_forms(config: Embed, embedder: Embedder, images: Path) -> dict[str, Work]:
    """From image files. Raises BadDataset, Refused."""
    source = first(open_source(images, embedder.recipe.stored), config.count)
    step = embedder.batch

    def decoded() -> int:
        starts = range(0, len(source), step)
        return sum(len(source.read(start, min(start + step, len(source)))) for start in starts)

    return {
        DECODE: decoded,
        FILES: lambda: embedded(embedder, source),
        FOLDER: folder_work(config, embedder.checkpoint, images),
    }


def forward(embedder: Embedder, images: NDArray[np.uint8]) -> int:
    """Take images through the network, as many at a time as the job does, and drop the features."""
    for start in range(0, len(images), embedder.batch):
        embedder(images[start : start + embedder.batch])
    return len(images)


def embedded(embedder: Embedder, source: Source) -> int:
    """Embed a collection and drop the blocks."""
    with closing(embed_collection(embedder, source)) as blocks:
        return sum(block.stop - block.start for block in blocks)


def folder_work(config: Embed, trained: Checkpoint, images: Path) -> Work:
    """What most people write: torchvision decodes in a worker for each core, plain torch layers, float32.

    Raises Refused where `images` is not a folder of class folders.
    """
    from torchvision.datasets import ImageFolder  # only the baseline needs torchvision
    from torchvision.transforms import v2

    device, mean = choose_device(config.device), trained.mean_image.mean((0, 1)).tolist()
    crop = [v2.Resize(trained.recipe.stored), v2.CenterCrop(trained.recipe.crop), v2.ToImage()]
    try:
        folder = ImageFolder(str(images), v2.Compose([*crop, v2.ToDtype(torch.float32), v2.Normalize(mean, [1] * 3)]))
    except OSError as error:
        raise Refused(f"--images {images}: {error}") from error
    rows = torch.utils.data.Subset(folder, range(min(config.count, len(folder))))
    loader = torch.utils.data.DataLoader(rows, 64, num_workers=os.cpu_count() or 1)
    network = Plain(network_of(trained)).eval().to(device)

    def loop() -> int:
        with torch.inference_mode():
            return sum(len(network(batch.to(device))[0].cpu()) for batch, _ in loader)

    return loop


def shares(timings: Mapping[str, Timing]) -> list[Share]:
    """Each form's rate, and its share of what it could be; a target is the product's, on two cores."""
    rate = {form: timing.rate for form, timing in timings.items()}
    compared: dict[str, tuple[str, float, float | None]] = {
        PACKED: ("forward", rate[FORWARD], 0.95),
        BUNDLE: ("forward", rate[FORWARD], 0.88 if timings[BUNDLE].handled >= LARGE else None),
    }
    if FILES in rate:
        apart = 1 / (1 / rate[FORWARD] + 1 / rate[DECODE])
        compared[FILES] = ("1 / (1 / forward + 1 / decode)", apart, 0.93)
    found = []
    for form, timing in timings.items():
        fastest, _, slowest = timing.milliseconds
        share = Share(form, timing.handled, timing.rate, fastest / 1e3, slowest / 1e3)
        if form in compared:
            of, base, target = compared[form]
            share = replace(share, of=of, ratio=timing.rate / base, target=target)
        elif form == FOLDER:
            share = replace(share, of="image files, of this", ratio=rate[FILES] / timing.rate, target=2.0)
        found.append(share)
    return found


def shown(found: list[Share]) -> str:
    """A table with one line for each form."""
    rows = [
        [
            s.form,
            f"{s.images:,}",
            f"{s.images_per_s:,.0f}",
            f"{s.fastest_s:.2f}-{s.slowest_s:.2f}",
            s.of,
            f"{s.ratio:.3f}" if s.ratio else "-",
            f">= {s.target}" if s.target else "-",
        ]
        for s in found
    ]
    return table(["form", "images", "img/s (median)", "s a round", "compared with", "ratio", "target"], rows)


def _network(config: Embed) -> Checkpoint:
    """The checkpoint that was named, or a network of random weights; in the precision that was named."""
    if config.checkpoint:
        trained = checkpoint.load(config.checkpoint)
    else:
        of, size = TABLES[config.preset], RECIPES[config.preset].stored
        weights = initialise(AlexNet(of, len(CLASSES)), torch.Generator().manual_seed(0)).state_dict()
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        trained = Checkpoint(of, Recipe(size, of.crop), CLASSES, arrays, np.full((size, size, 3), 120, np.float32))
    return replace(trained, recipe=replace(trained.recipe, precision=config.precision))
