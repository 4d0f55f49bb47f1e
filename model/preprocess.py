"""Bytes -> stored image -> network input, the same for evaluating, indexing and serving. The checkpoint has its recipe.

S is the stored side (256; 32 for CIFAR-10), C the crop that the network sees (224; 28), B images in a batch. What
follows decoding is written once for NumPy arrays and torch tensors: answering on a CPU does not import torch.
"""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.jpeg import more_scans, most_scans

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MAX_PIXELS",
    "BadImage",
    "EmbeddingPrecision",
    "Recipe",
    "TooManyPixels",
    "central",
    "decoded",
    "mean_crop",
    "network_input",
    "square",
    "stored_image",
    "ten_views",
]

MAX_PIXELS = 100_000_000  # an image's width x height; decoding takes 4 to 12 bytes of memory a pixel

Array = TypeVar("Array", "Tensor", NDArray[Any])
EmbeddingPrecision = Literal["float32", "bfloat16"]

# Raster formats only: Pillow would also hand EPS to Ghostscript, which runs the file as a program.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
ACCEPTED = "accepted are JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, PPM and JPEG 2000"

ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """These bytes are not an image that can be decoded; the message says why, without a path or an address."""


class TooManyPixels(BadImage):
    """The header claims more pixels than the limit; nothing was decoded."""


@dataclass(frozen=True)
class Recipe:
    """How an image becomes the network's input. Raises ValueError for a recipe that this code does not follow."""

    stored: int  # S, pixels: side of the stored image
    crop: int  # C, pixels: side of the network's input
    resample: str = "bicubic"  # antialiased, one pass
    precision: EmbeddingPrecision = "float32"  # of the network's arithmetic when it embeds
    version: int = 1  # of stored_image and network_input: raised when their output changes

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.stored:
            raise ValueError(f"a crop of {self.crop} pixels does not fit a stored image of {self.stored}")
        if (self.resample, self.version) != ("bicubic", 1):
            raise ValueError(f"{self!r}: this code resizes bicubic, version 1")
        if self.precision not in get_args(EmbeddingPrecision):
            raise ValueError(f"a precision of {self.precision!r}: float32 and bfloat16 are accepted")


def stored_image(data: bytes, size: int, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode any image to RGB uint8 (S, S, 3): shorter side resized to S, central S x S (section 2).

    EXIF orientation applied, white behind transparency, first frame of an animation, the high byte of 16-bit samples.
    Raises BadImage, and TooManyPixels before anything is decoded.
    """
    return square(decoded(data, 2 * size, max_pixels=max_pixels), size)


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """A decoded image -> uint8 (S, S, 3): shorter side resized to S, central S x S."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2  # may end in a half: the filter weighs it exactly
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def decoded(data: bytes, least: int, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The whole image in RGB, upright, white behind transparency.

    A JPEG's decoder may make it smaller, by 2, 4 or 8, if its shorter side keeps `least` pixels. Raises BadImage, and
    TooManyPixels before anything is decoded.
    """
    _silence_pillow()
    Image.init()  # else Pillow knows five formats until it meets a sixth
    try:
        return _decoded(data, least, max_pixels)
    except (BadImage, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"more pixels than the limit of {max_pixels:,}") from error
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise BadImage(f"not an image in a known format; {ACCEPTED}") from error
    except Exception as error:  # hostile bytes make Pillow's decoders raise almost anything
        raise BadImage(f"the image cannot be decoded: {error}") from error


def _decoded(data: bytes, least: int, max_pixels: int) -> Image.Image:
    if not data:
        raise BadImage(f"the file is empty; {ACCEPTED}")
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width < 1 or height < 1:
            raise BadImage(f"the image has {width} x {height} pixels")
        if width * height > max_pixels:
            raise TooManyPixels(f"{width} x {height} pixels, more than the limit of {max_pixels:,}")
        if more_scans(data, most := most_scans(width * height)):
            raise BadImage(f"a JPEG of {width} x {height} pixels with more than {most} scans, which is the limit")
        image.draft(None, (least, least))  # a JPEG's decoder scales by itself, and then has less to do
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF tag is no reason to refuse a good image
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey -> 8 by its high byte, as Pillow reads 16-bit colour (its own conversion of grey clips at 255)."""
    samples = np.clip(np.asarray(image), 0, 65535)
    grey = Image.fromarray((samples >> 8).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(samples == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def _silence_pillow() -> None:
    """Ignore Pillow's warnings about odd metadata and size: an image is either decoded or refused.

    The filter is added whenever it is not the first, because warnings.catch_warnings is not safe between threads.
    """
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if list(warnings.filters[:1]) != [rule]:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def central(size: int, crop: int) -> slice:
    """Return the rows (and the columns) of the central crop: they start at floor((S - C) / 2)."""
    start = (size - crop) // 2
    return slice(start, start + crop)


def mean_crop(mean_image: Array, crop: int) -> Array:
    """float32 (S, S, 3) -> (C, C, 3): what is subtracted from every crop.

    It is the central crop, wherever the image's own crop was taken, as in the 2012 code.
    """
    window = central(mean_image.shape[0], crop)
    return mean_image[window, window]


def network_input(images: Array, mean_image: Array, crop: int) -> Array:
    """uint8 (B, S, S, 3) -> float32 (B, 3, C, C), channels last in memory: the central crop minus the mean image's.

    The scale stays 0-255: there is no division by a standard deviation. `mean_image` is float32 (S, S, 3), on the
    images' device. Raises ValueError for shapes that do not fit together.
    """
    size = mean_image.shape[0]
    if images.shape[1:] != (size, size, 3) or mean_image.shape != (size, size, 3):
        raise ValueError(f"images {tuple(images.shape)} do not fit the mean image {tuple(mean_image.shape)}")
    window = central(size, crop)
    return _channels_first(images[:, window, window] - mean_crop(mean_image, crop))


def ten_views(images: Array, mean_image: Array, crop: int) -> Iterator[Array]:
    """uint8 (B, S, S, 3) -> ten times float32 (B, 3, C, C): four corners and the centre, then their mirror images.

    Section 4.1's test views; the prediction is the mean of the ten softmax outputs.
    """
    size = mean_image.shape[0]
    margin, centre = size - crop, central(size, crop).start
    offsets = [(0, 0), (0, margin), (centre, centre), (margin, 0), (margin, margin)]
    mirrored = list(range(crop - 1, -1, -1))  # torch has no negative steps
    for mirror in (False, True):
        for top, left in offsets:
            view = images[:, top : top + crop, left : left + crop]
            yield _channels_first((view[:, :, mirrored] if mirror else view) - mean_crop(mean_image, crop))


def _channels_first(pixels: Array) -> Array:
    """(B, C, C, 3) -> (B, 3, C, C), the same memory."""
    return pixels.swapaxes(1, 3).swapaxes(2, 3)
