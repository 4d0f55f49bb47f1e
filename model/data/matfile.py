"""Read MATLAB 5 files, as far as the ILSVRC development kit's `meta.mat` needs it; SciPy is not needed.

A file is a list of elements. An element is a tag (type, length in bytes) and a body: numbers, a matrix, or elements
compressed by zlib.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from model.data.packed import BadDataset

__all__ = ["read_mat"]

# Element types of the format's table 1-1, as NumPy reads them.
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
MATRIX, COMPRESSED = 14, 15
MAX_BYTES = 1 << 26  # of an element; the kit's take less than a megabyte
CELL, STRUCT, CHAR = 1, 2, 4  # a matrix's classes; 6 and above hold numbers


def read_mat(data: bytes) -> dict[str, Any]:
    """Return the variables by name: numbers as arrays, text as str, struct arrays as lists of dicts, cells as lists.

    Raises BadDataset for anything but a little-endian MATLAB 5 file (as MATLAB 5 to 7.2 wrote them).
    """
    if data[126:128] != b"IM":
        raise BadDataset("not a MATLAB 5 file")
    try:
        return dict(_matrix(body) for kind, body in _elements(data[128:]) if kind == MATRIX)
    except (struct.error, zlib.error, ValueError, KeyError, IndexError, RecursionError) as error:
        raise BadDataset(f"damaged MATLAB file ({error!r})") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each element, also of those within compressed elements."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind >> 16:  # up to four bytes lie in the tag itself
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        body = data[at + 8 : at + 8 + length]
        if len(body) != length:
            raise ValueError("an element is cut short")
        at += 8 + length
        if kind == COMPRESSED:
            yield from _elements(_decompressed(body))
        else:
            yield kind, body
            at += -length % 8  # bodies are padded to eight bytes, compressed ones are not


def _decompressed(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(body, MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"an element is cut short, or larger than {MAX_BYTES:,} bytes")
    return data


def _matrix(body: bytes) -> tuple[str, Any]:
    """Return a matrix's name and value. An empty body is an empty matrix."""
    if not body:
        return "", np.empty((0, 0))
    (_, flags), (_, dimensions), (_, name), *parts = _elements(body)
    kind, shape = flags[0], np.frombuffer(dimensions, "<i4").tolist()
    return name.decode("latin-1"), _value(kind, shape, parts)


def _value(kind: int, shape: list[int], parts: list[tuple[int, bytes]]) -> Any:
    if kind == CELL:
        return [_matrix(body)[1] for _, body in parts]
    if kind == STRUCT:
        (_, width), (_, packed), *bodies = parts
        step = int(np.frombuffer(width, "<i4")[0])
        fields = [packed[at : at + step].split(b"\0")[0].decode("latin-1") for at in range(0, len(packed), step)]
        values = [_matrix(body)[1] for _, body in bodies]
        if len(values) != math.prod(shape) * len(fields):
            raise ValueError("a struct has too few values")
        rows = range(0, len(values), max(1, len(fields)))
        return [dict(zip(fields, values[at : at + len(fields)], strict=True)) for at in rows]
    stored, numbers = parts[0]
    if kind == CHAR:
        return numbers.decode(TEXT[stored])
    return np.frombuffer(numbers, NUMBERS[stored]).reshape(shape, order="F")
