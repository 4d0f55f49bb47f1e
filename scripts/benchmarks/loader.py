"""From a packed set to batches: the host's share, the way to augmented float, and what most people use instead."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from model.allocator import keep_freed_memory
from model.data.loader import order, read, window_of
from model.data.packed import PackedSet, Split
from model.train.augment import augment, colour_basis, draw
from model.train.recipes import RECIPES
from scripts.benchmarks.timing import conditions, in_turn, table


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Time the way of images from disk to training batches."""

    data: Path = Path("data/cifar10")  # packed set
    images: Path | None = None  # the same photographs as class folders: the baseline, ImageFolder + DataLoader + PIL
    preset: str = "release"  # whose augmentation
    batch: int = 128
    count: tuple[int, ...] = (8192,)  # images a round; several: how the cost grows
    rounds: int = 5
    cold: bool = False  # also with the file's pages dropped from memory before each round


def batches(split: Split, size: int, batch: int, count: int) -> Iterator[Tensor]:
    """uint8 (batch, S, S, 3), shuffled as in training, until `count` images were read, over epochs if need be."""
    epoch, left = 0, count // batch
    device = torch.device("cpu")
    while left > 0:
        rows = order(0, epoch, len(split), window_of(size))
        full = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)][:left]
        yield from (read_batch.images for read_batch in read(split, full, size, device))
        left, epoch = left - len(full), epoch + 1


def folder_batches(config: Loader, size: int, count: int) -> Callable[[], None]:
    """torchvision's way: PIL decodes, crops and mirrors in two worker processes."""
    crop = RECIPES[config.preset].crop
    steps = [v2.Resize(size), v2.RandomCrop(crop), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32)]
    loader = DataLoader(ImageFolder(str(config.images), v2.Compose(steps)), config.batch, shuffle=True, num_workers=2)

    def read_folder() -> None:
        for done, _ in enumerate(loader, 1):
            if done * config.batch >= count:
                return

    return read_folder


def drop_pages(folder: Path) -> None:
    """Ask the system to forget the files' pages, as if the set had not been read for long."""
    for file in folder.rglob("images.*"):
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def forms(config: Loader, packed: PackedSet, count: int) -> dict[str, Callable[[], object]]:
    """What is compared; each opens the set anew (a page that is still mapped cannot be dropped) and reads `count`."""
    recipe = RECIPES[config.preset]
    basis, mean = colour_basis(recipe, packed.pca), torch.from_numpy(packed.mean_image)

    def host() -> None:
        for _ in batches(PackedSet.open(config.data).split("train"), packed.size, config.batch, count):
            pass

    def whole() -> None:
        split = PackedSet.open(config.data).split("train")
        for step, images in enumerate(batches(split, packed.size, config.batch, count)):
            augment(images, draw(0, step, config.batch, recipe, colour=True), mean, basis, recipe)

    def cold() -> None:
        drop_pages(config.data)
        host()

    named: dict[str, Callable[[], object]] = {"fc7, host's share (uint8)": host, "fc7, augmented to float": whole}
    if config.cold:
        named["fc7, host's share, cold"] = cold
    if config.images:
        named["ImageFolder + DataLoader"] = folder_batches(config, packed.size, min(count, 1024))
    return named


def measure(config: Loader) -> None:
    """Print a table of every form at every count."""
    packed = PackedSet.open(config.data)
    keep_freed_memory()  # as scripts/train.py does
    print(conditions())
    print(f"{config.data}: {len(packed.split('train')):,} images of {packed.size} x {packed.size} pixels")
    rows = []
    for count in config.count:
        timings = in_turn(forms(config, packed, count), config.rounds)
        read_by = {name: min(count, 1024) if "Folder" in name else count for name in timings}
        rates = {name: read_by[name] / timing.median for name, timing in timings.items()}
        base = rates.get("ImageFolder + DataLoader")
        for name, timing in timings.items():
            times = f"{rates[name] / base:.1f} x" if base else "-"
            rows.append([f"{count:,}", name, f"{rates[name]:,.0f}", timing.spread, times])
    print(table(["images", "loader", "img/s (median)", "ms a round", "of ImageFolder"], rows))
