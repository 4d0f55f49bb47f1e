"""Features to measure an index on, as many as wanted: a dataset's images first, then crops and mirror images of them.

The network sees a central crop of S - C pixels less than the stored image; there are (S - C + 1)^2 such crops, and each
can be mirrored: V variants. Row r belongs to image r % n. The first n rows are the images as they are indexed; later
passes take each image's other variants in an order of its own, so no row is made twice. A row depends on its number and
the seed alone: a file that was begun is continued, and a longer one begins with the shorter.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import files
from model import Embedder, PackedSet, load_checkpoint
from model.data.packed import Split
from model.evaluation import check_size
from model.progress import counting
from scripts.benchmarks.settings import Features, check_positive
from scripts.benchmarks.timing import table, timed
from scripts.command import Refused

BLOCK = 4096  # rows embedded and written together: 64 MiB


@dataclass(frozen=True)
class Made:
    """What was written."""

    file: str
    rows: int
    new: int  # rows that were not there before
    seconds: float


@dataclass(frozen=True)
class Variants:
    """Every image's crops and mirror images, in its order."""

    margin: int  # S - C
    order: NDArray[np.int64]  # (V - 1,) all variants but 0, which is the image as it is
    begins: NDArray[np.int64]  # (n,) where in it each image begins

    @classmethod
    def of(cls, count: int, margin: int, seed: int) -> "Variants":
        """For `count` images."""
        random, others = np.random.default_rng(seed), 2 * (margin + 1) ** 2 - 1
        return cls(margin, random.permutation(others) + 1, random.integers(0, others, count))

    @property
    def most(self) -> int:
        """Rows that can be made without making one twice."""
        return len(self.begins) * (len(self.order) + 1)

    def made(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (b, S, S, 3) of these rows (b,) -> their variants: the central crop is the crop that was meant."""
        passes, image = np.divmod(rows, len(self.begins))
        number = np.where(passes == 0, 0, self.order[(self.begins[image] + passes - 1) % len(self.order)])
        mirrored, crop = np.divmod(number, (self.margin + 1) ** 2)
        down, right = np.divmod(crop, self.margin + 1)
        # Variant 0 moves nothing. What is moved out at one side comes in at the other, where no central crop reaches.
        along, most, before = np.arange(images.shape[1]), self.margin + 1, self.margin // 2
        y = (along + ((down + before) % most - before)[:, None]) % len(along)
        x = (along + ((right + before) % most - before)[:, None]) % len(along)
        x = np.where(mirrored[:, None], len(along) - 1 - x, x)
        variants: NDArray[np.uint8] = images[np.arange(len(images))[:, None, None], y[:, :, None], x[:, None, :]]
        return variants


def measure(config: Features) -> list[Made]:
    """Write OUT/features.npy and OUT/queries.npy. Raises BadCheckpoint, BadDataset, NoSuchDevice, Refused."""
    check_positive(config, "rows", "queries")
    packed, checkpoint = PackedSet.open(config.data), load_checkpoint(config.checkpoint)
    check_size(str(config.checkpoint), checkpoint, packed)
    train, held_out = packed.split("train"), packed.split(config.split)
    if len(held_out) < config.queries:
        raise Refused(f"--queries {config.queries}: {config.data} has {len(held_out)} images in split {config.split!r}")
    variants = Variants.of(len(train), checkpoint.recipe.stored - checkpoint.recipe.crop, config.seed)
    if config.rows > variants.most:
        raise Refused(f"--rows {config.rows}: {len(train)} images give {variants.most} different rows, no more")
    embedder = Embedder(checkpoint, config.device)
    about = {"seed": config.seed, "data": packed.fingerprint, "engine": embedder.engine, **checkpoint.fingerprints()}
    with files.translated(config.out, Refused, Refused):
        files.make_folder(config.out)
        _check(config.out / "features.json", about)
        with files.replacing(config.out / "queries.npy") as file:
            np.save(file, embedder(held_out.images(slice(0, config.queries)))[1])
        file_of_rows = config.out / "features.npy"
        new, seconds = timed(lambda: write(file_of_rows, config.rows, embedder, train, variants))
    return [Made(str(file_of_rows), config.rows, new, seconds)]


def write(path: Path, rows: int, embedder: Embedder, train: Split, variants: Variants) -> int:
    """Write the first `rows` rows to `path`, float32, after those that are there. Return how many were new."""
    if path.exists() and len(np.load(path, mmap_mode="r")) >= rows:
        return 0
    part, row, report = path.with_name(path.name + files.PART), 4 * embedder.width, counting("rows")
    if path.exists():
        path.rename(part)
    with part.open("ab") as file:  # made where it is missing
        there = max(0, file.tell() - files.NPY_HEADER) // row
    begun = min(there, rows) // BLOCK * BLOCK  # whole blocks: a row's last bits may depend on those beside it
    with part.open("r+b", buffering=0) as file:
        file.truncate(files.NPY_HEADER + begun * row)
        for start in range(begun, rows, BLOCK):
            report("embed", start, rows)
            numbers = np.arange(start, min(start + BLOCK, rows))
            file.seek(files.NPY_HEADER + start * row)
            images = variants.made(train.images(numbers % len(train)), numbers)
            files.write_all(file, np.ascontiguousarray(embedder(images)[1], "<f4").data)
        file.seek(0)
        files.write_all(file, files.npy_header("<f4", (rows, embedder.width)))
    files.sync(part)
    part.rename(path)
    report("embed", rows, rows)
    return rows - begun


def shown(made: list[Made]) -> str:
    """A table with one line for each file."""
    rows = [[m.file, f"{m.rows:,}", f"{m.new:,}", f"{m.seconds:.1f}"] for m in made]
    return table(["file", "rows", "new", "s"], rows)


def _check(file: Path, about: dict[str, object]) -> None:
    """Note what the rows are made from; raise Refused where rows of something else are there."""
    if not file.exists():
        files.replace(file, json.dumps(about).encode())
    elif file.read_text() != json.dumps(about):
        raise Refused(f"{file.parent}: holds features made from something else; delete it, or give another --out")
