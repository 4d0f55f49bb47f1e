"""The small images that the page shows, made from the original where there is one."""

import io
import struct
import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import decoded, square

__all__ = ["png", "stored_image_and_thumbnail", "thumbnail", "thumbnail_type"]

SIDE = 160  # pixels, at most; aspect ratio kept
PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of such a file
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
    """The thumbnail of a stored image (S, S, 3), for datasets that have no other.

    Above SIDE it is smaller by a whole factor, each pixel the mean of 2 x 2, say: bicubic costs several times as much.
    """
    if len(image) <= LOSSLESS:
        return png(image)
    return _encoded(Image.fromarray(image).reduce(-(-len(image) // SIDE)))


def thumbnail_type(data: bytes) -> Literal["image/png", "image/jpeg"]:
    """The media type of a thumbnail."""
    return "image/png" if data.startswith(PNG) else "image/jpeg"


def _encoded(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)  # never larger than it is
    if max(image.size) <= LOSSLESS:
        return png(np.asarray(image))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, comment=b"")  # else the original's, and an error where it is a long one
    return out.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """RGB pixels (H, W, 3) as a PNG file, not compressed.

    Compressing 32 x 32 pixels takes longer than all else but the network in the batch job, and saves a quarter.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.data, 0)), (b"IEND", b""))
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in chunks
    )
