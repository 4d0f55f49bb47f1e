"""Image files broken in the ways that break decoders, drawn at random; a seed repeats them."""

from collections.abc import Iterator

import numpy as np

from tests.images import encoded, photograph

__all__ = ["mutated", "originals"]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER = 96  # bytes in which formats keep sizes


def originals() -> list[bytes]:
    """Return whole files of every accepted format, in several of its forms."""
    pixels = photograph(96, 128)
    return [
        encoded(pixels, "JPEG"),
        encoded(pixels, "JPEG", progressive=True),
        encoded(pixels[..., 0], "JPEG", optimize=True),
        encoded(pixels),
        encoded(pixels, optimize=True, bits=8),
        encoded(pixels, "WEBP"),
        encoded(pixels, "WEBP", lossless=True),
        encoded(pixels, "GIF"),
        encoded(pixels, "TIFF"),
        encoded(pixels, "TIFF", compression="tiff_lzw"),
        encoded(pixels, "TIFF", compression="tiff_adobe_deflate"),
        encoded(pixels, "TIFF", compression="jpeg"),
        encoded(pixels, "AVIF", speed=10),
        encoded(pixels, "BMP"),
        encoded(pixels, "PPM"),
        encoded(pixels, "JPEG2000"),
    ]


def mutated(seed: int) -> Iterator[bytes]:
    """Yield broken files without end: each an original with one to three changes."""
    rng, files = np.random.default_rng(seed), originals()
    while True:
        data = bytearray(files[rng.integers(len(files))])
        for _ in range(rng.integers(1, 4)):
            other = files[rng.integers(len(files))]
            change = (_flip, _truncate, _splice, _resize, _cut, _repeat)[rng.integers(6)]
            data = change(rng, data, other) or bytearray(1)
        yield bytes(data)


def _flip(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    """Other bytes at one to sixteen places, half of them in the header."""
    for _byte in range(rng.integers(1, 17)):
        data[rng.integers(min(len(data), HEADER) if rng.random() < 0.5 else len(data))] = rng.integers(256)
    return data


def _truncate(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    return data[: rng.integers(1, len(data) + 1)]


def _splice(rng: np.random.Generator, data: bytearray, other: bytes) -> bytearray:
    """The beginning of one file, then the rest of another."""
    return data[: rng.integers(1, len(data) + 1)] + other[rng.integers(len(other)) :]


def _resize(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    """An extreme number of one, two or four bytes in the header, in either byte order."""
    width, at = int(rng.choice([1, 2, 4])), rng.integers(min(len(data), HEADER))
    value = EXTREMES[rng.integers(len(EXTREMES))] % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")
    return data


def _cut(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 200)]
    return data


def _repeat(rng: np.random.Generator, data: bytearray, _: bytes) -> bytearray:
    start, times = rng.integers(len(data)), int(rng.integers(2, 9))
    block = data[start : start + rng.integers(1, 400)]
    return data[:start] + block * times + data[start:]
