"""The small images that the page shows, made from the original where there is one."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import decoded, square

__all__ = ["stored_image_and_thumbnail", "thumbnail", "thumbnail_type"]

SIDE = 160  # pixels, at most; aspect ratio kept
LOSSLESS = 64  # pixels; up to this side a thumbnail is a PNG, beyond it a JPEG


def stored_image_and_thumbnail(data: bytes, size: int) -> tuple[NDArray[np.uint8], bytes]:
    """Encoded image -> `stored_image` of it, uint8 (S, S, 3), and the thumbnail of the whole image, upright over white.

    Raises BadImage.
    """
    image = decoded(data, 2 * size)
    stored = square(image, size)
    if max(image.size) < SIDE and min(image.size) >= 2 * size:  # else the decoder has not made it smaller
        image = decoded(data, SIDE)
    return stored, _encoded(image)


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """The thumbnail of a stored image (S, S, 3), for datasets that have no other."""
    return _encoded(Image.fromarray(image))


def thumbnail_type(data: bytes) -> Literal["image/png", "image/jpeg"]:
    """The media type of a thumbnail."""
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


def _encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)  # never larger than it is
    if max(image.size) <= LOSSLESS:
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=90)
    return out.getvalue()
