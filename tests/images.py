"""Images by name: each awkward kind that a stranger's file or upload can be, made from bytes up, deterministic.

`IMAGES` are decodable and say what any decoder must agree on; `BROKEN` must each become one clear refusal. Both map
a name to a function that makes the bytes, so that importing this module costs nothing.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BROKEN", "IMAGES", "encoded", "photograph", "png_header", "rotated", "with_scans"]

ORIENTATION = 0x0112  # EXIF tag


def photograph(height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: smooth colour with a bright corner, so that no flip or rotation equals another."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (4, 5, 3), dtype=np.uint8)
    coarse[0, 0] = (255, 40, 10)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: NDArray[np.generic] | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a file of Pillow's format `kind`."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def rotated(pixels: NDArray[np.uint8], orientation: int, kind: str = "PNG") -> bytes:
    """The pixels as stored, with an EXIF remark that says how to turn them for showing (1 to 8)."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(pixels, kind, exif=exif)


def with_scans(more: int, pixels: NDArray[np.uint8]) -> bytes:
    """A progressive JPEG whose last scan comes `more` times again: each makes the decoder go over the whole image."""
    data = encoded(pixels, "JPEG", progressive=True, quality=20)
    last, end = data.rindex(b"\xff\xda"), len(data) - 2
    return data[:end] + more * data[last:end] + data[end:]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims width x height pixels and holds next to none: a decompression bomb's first bytes."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", ihdr) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _half_transparent() -> NDArray[np.uint8]:
    pixels = photograph()
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    alpha[:, : pixels.shape[1] // 2] = 0  # the left half shows white
    return np.concatenate([pixels, alpha], axis=2)


def _palette_with_alpha() -> bytes:
    indices = np.zeros((48, 64), np.uint8)
    indices[:, 32:] = 1
    image = Image.fromarray(indices).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    return encoded(image, transparency=bytes([0, 255]))  # entry 0, the left half, is clear


def _animated_gif() -> bytes:
    first, second = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    return encoded(first, "GIF", save_all=True, append_images=[second], duration=100)


def _sixteen_bit_grey() -> bytes:
    return encoded(np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1)))


def _animated_webp() -> bytes:
    first, second = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    return encoded(first, "WEBP", save_all=True, append_images=[second], duration=100, lossless=True)


IMAGES: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "plain JPEG": lambda: encoded(photograph(), "JPEG"),
        "plain PNG": lambda: encoded(photograph()),
        "1x1": lambda: encoded(np.full((1, 1, 3), 77, np.uint8)),
        "1x20000": lambda: encoded(photograph(20000, 1)),
        "20000x1": lambda: encoded(photograph(1, 20000)),
        "CMYK JPEG": lambda: encoded(Image.fromarray(photograph()).convert("CMYK"), "JPEG"),
        "progressive JPEG": lambda: encoded(photograph(), "JPEG", progressive=True),
        "grey JPEG": lambda: encoded(photograph()[..., 0], "JPEG"),
        "grey PNG": lambda: encoded(photograph()[..., 0]),
        "one-bit PNG": lambda: encoded(Image.fromarray(photograph()).convert("1")),
        "grey PNG with alpha": lambda: encoded(Image.fromarray(_half_transparent()).convert("LA")),
        "PNG with alpha": lambda: encoded(_half_transparent()),
        "16-bit PNG": _sixteen_bit_grey,
        "palette PNG with alpha": _palette_with_alpha,
        "animated GIF": _animated_gif,
        "animated WebP": _animated_webp,
        "EXIF-rotated JPEG": lambda: rotated(photograph(), 6, "JPEG"),
        "EXIF-rotated PNG": lambda: rotated(photograph(), 6),
        "TIFF": lambda: encoded(photograph(), "TIFF"),
        "BMP": lambda: encoded(photograph(), "BMP"),
    }
)

BROKEN: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "empty": lambda: b"",
        "truncated JPEG": lambda: encoded(photograph(480, 640), "JPEG")[:2000],
        "truncated progressive JPEG": lambda: encoded(photograph(480, 640), "JPEG", progressive=True)[:1500],
        "JPEG of 400 scans": lambda: with_scans(400, photograph()),
        "truncated PNG": lambda: encoded(photograph(480, 640))[:2000],
        "header only": lambda: encoded(photograph(), "JPEG")[:20],
        "0x0": lambda: png_header(0, 0),
        "decompression bomb": lambda: png_header(60_000, 60_000),
        "large decompression bomb": lambda: png_header(2**31 - 1, 2**31 - 1),
        "HTML named .jpg": lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
        "random bytes": lambda: np.random.default_rng(0).bytes(4096),
    }
)
