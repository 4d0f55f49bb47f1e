"""From a packed dataset to batches: what the host does, all of it, and what most people use instead."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from model.allocator import keep_freed_memory
from model.data.loader import order, read, window_of
from model.data.packed import PackedSet, Split
from model.data.packing import pack
from model.data.rows import ArraySource
from model.device import choose_device
from model.train.augment import augment, colour_basis, draw
from model.train.recipes import RECIPES, TrainingRecipe
from scripts.benchmarks.settings import Loader, check_positive
from scripts.benchmarks.timing import Work, in_turn, table
from scripts.command import Refused

FOLDER = "ImageFolder + DataLoader"
FOLDER_COUNT = 1024  # images in a round of the baseline, which is much slower


@dataclass(frozen=True)
class Reading:
    """One loader's figures."""

    loader: str
    images: int  # read in each round
    images_per_s: float  # in the median round
    fastest_ms: float
    slowest_ms: float
    of_folder: float | None  # times the baseline's rate, where that was asked for


def measure(config: Loader) -> list[Reading]:
    """Time every form at every count. Raises BadDataset, NoSuchDevice, Refused."""
    check_positive(config, "batch", "count", "rounds", *(["noise"] if config.noise else []))
    keep_freed_memory()  # as scripts/train.py does
    readings = []
    with _dataset(config) as packed:
        for count in config.count:
            timings = in_turn(forms(config, packed, count), config.rounds, device=choose_device(config.device))
            base = timings[FOLDER].rate if FOLDER in timings else None
            for name, timing in timings.items():
                fastest, _, slowest = timing.milliseconds
                times = timing.rate / base if base else None
                readings.append(Reading(name, timing.handled, timing.rate, fastest, slowest, times))
    return readings


def shown(readings: list[Reading]) -> str:
    """A table with one line for each reading."""
    rows = [
        [
            f"{r.images:,}",
            r.loader,
            f"{r.images_per_s:,.0f}",
            f"{r.fastest_ms:.1f}-{r.slowest_ms:.1f}",
            f"{r.of_folder:.1f} x" if r.of_folder else "-",
        ]
        for r in readings
    ]
    return table(["images", "loader", "img/s (median)", "ms a round", "of ImageFolder"], rows)


def forms(config: Loader, packed: PackedSet, count: int) -> dict[str, Work]:
    """What is compared; each opens the dataset anew (a page that is still mapped cannot be dropped)."""
    recipe, device = RECIPES[config.preset], choose_device(config.device)
    basis, mean = colour_basis(recipe, packed.pca).to(device), torch.from_numpy(packed.mean_image).to(device)

    def stored() -> Iterator[Tensor]:
        return batches(PackedSet.open(packed.path).split("train"), packed.size, config.batch, count, device)

    def host() -> int:
        return sum(len(images) for images in stored())

    def augmented() -> int:
        read_so_far = 0
        for step, images in enumerate(stored()):
            parameters = draw(0, step, len(images), recipe, colour=True)
            read_so_far += len(augment(images, parameters, mean, basis, recipe))
        return read_so_far

    def cold() -> int:
        drop_pages(packed.path)
        return host()

    named: dict[str, Work] = {"fc7, host's share (uint8)": host, "fc7, augmented to float": augmented}
    if config.cold:
        named["fc7, host's share, cold"] = cold
    if config.images:
        named[FOLDER] = folder_work(config.images, recipe, packed.size, config.batch, min(count, FOLDER_COUNT))
    return named


def batches(split: Split, size: int, batch: int, count: int, device: torch.device) -> Iterator[Tensor]:
    """uint8 (batch, S, S, 3) on `device`, shuffled as in training, count // batch of them, over epochs if need be.

    Raises Refused where there is not one whole batch.
    """
    if min(len(split), count) < batch:
        raise Refused(f"{len(split)} images, {count} to read: --batch {batch} asks for more")
    epoch, left = 0, count // batch
    while left > 0:
        rows = order(0, epoch, len(split), window_of(size))
        full = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)][:left]
        yield from (one.images for one in read(split, full, size, device))
        left, epoch = left - len(full), epoch + 1


def folder_work(images: Path, recipe: TrainingRecipe, size: int, batch: int, count: int) -> Work:
    """torchvision's way: PIL decodes, crops and mirrors in two worker processes; a round is count // batch batches.

    Raises Refused where `images` is not a folder of class folders.
    """
    from torchvision.datasets import ImageFolder  # only the baseline needs torchvision
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip()
    steps = [v2.Resize(size), v2.RandomCrop(recipe.crop), flip, v2.ToImage(), v2.ToDtype(torch.float32)]
    try:
        folder = ImageFolder(str(images), v2.Compose(steps))
    except OSError as error:
        raise Refused(f"--images {images}: {error}") from error
    loader = DataLoader(folder, batch, shuffle=True, num_workers=2)

    def read_folder() -> int:
        read_so_far = 0
        for one, _ in loader:
            read_so_far += len(one)
            if read_so_far + batch > count:
                break
        return read_so_far

    return read_folder


def drop_pages(folder: Path) -> None:
    """Ask the system to forget the files' pages, as if the dataset had not been read for long."""
    for file in folder.rglob("images.*"):
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


@contextmanager
def _dataset(config: Loader) -> Iterator[PackedSet]:
    if not config.noise:
        yield PackedSet.open(config.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield packed_noise(Path(folder) / "noise", config.noise, RECIPES[config.preset].stored)


def packed_noise(out: Path, count: int, size: int) -> PackedSet:
    """A packed dataset of `count` images of noise, the same every time."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    labels, names = np.zeros(count, np.int64), [f"noise/{row:06}" for row in range(count)]
    return pack(out, {"train": ArraySource(images, labels, names, ("noise",), f"noise {count} {size}")})
