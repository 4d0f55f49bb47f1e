"""Photographs to load a service with: a user's own, or made ones of the same size, so that no dataset is needed."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from model import open_source
from model.data.encoded import EncodedSource
from model.data.threads import on_all_cores
from scripts.command import Refused

__all__ = ["made", "mirrored", "plain", "write"]

CLASSES = 10
SIZES = ((256, 341), (341, 256))  # height, width
OCTAVES = ((3, 90.0), (6, 60.0), (12, 40.0), (25, 25.0), (60, 15.0), (150, 10.0))  # cells in the width, contrast
QUALITY = 75
QUALITIES = range(20, 96, 5)  # of JPEG


def made(seed: int) -> Image.Image:
    """Return an image with coarse and fine structure in the shares that photographs have."""
    rng = np.random.default_rng(seed)
    height, width = SIZES[seed % len(SIZES)]
    image = np.full((height, width, 3), rng.uniform(80, 170, 3), np.float32)
    for cells, contrast in OCTAVES:
        grid = rng.standard_normal((max(2, cells * height // width), cells)).astype(np.float32) * contrast
        grown = Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR)
        image += np.asarray(grown)[..., None] * rng.uniform(0.4, 1, 3).astype(np.float32)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def plain() -> bytes:
    """Return an image of one colour, as a PNG."""
    out = io.BytesIO()
    Image.new("RGB", (400, 300), (120, 60, 200)).save(out, "PNG")
    return out.getvalue()


def of_size(image: Image.Image, kilobytes: float) -> bytes:
    """Encode as a JPEG at the quality that comes nearest to a size."""
    low, high, best = 0, len(QUALITIES), b""
    while low < high:
        middle = (low + high) // 2
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITIES[middle])
        if abs(out.tell() - kilobytes * 1e3) < abs(len(best) - kilobytes * 1e3):
            best = out.getvalue()
        low, high = (middle + 1, high) if out.tell() < kilobytes * 1e3 else (low, middle)
    return best


def write(folder: Path, count: int, first: int = 0) -> None:
    """Write `count` made photographs as class folders. `first`: the seed of the first one."""

    def one(seed: int) -> None:
        made(seed).save(folder / f"class {seed % CLASSES}" / f"{seed:05}.jpg", "JPEG", quality=QUALITY)

    for number in range(CLASSES):
        (folder / f"class {number}").mkdir(parents=True, exist_ok=True)
    on_all_cores(one, range(first, first + count))


def mirrored(images: Path, count: int, kilobytes: float) -> list[bytes]:
    """Return mirror images of `count` photographs of a collection, as JPEGs of about this size: none is indexed.

    Raises BadDataset, and Refused for a packed dataset, which has no photographs.
    """
    source = open_source(images, 1)
    if not isinstance(source, EncodedSource):
        raise Refused(f"--images {images}: a packed dataset; a folder, a list or shards of image files are accepted")
    step, found = max(1, len(source) // count), list[bytes]()
    for image in source.images[::step][:count]:
        photograph = Image.open(io.BytesIO(image.data())).convert("RGB")
        found.append(of_size(photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT), kilobytes))
    return found
