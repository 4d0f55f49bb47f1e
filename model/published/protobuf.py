"""Read protocol-buffer messages without their schema: field number -> values, in order.

This is enough for the two old formats of published weights, .caffemodel and ONNX. Bytes are not copied: a value is a
view into the file.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BadMessage", "Message", "Value", "array", "integers", "message", "messages", "text"]

Value = int | memoryview  # a varint, or the bytes of anything else
Message = dict[int, list[Value]]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in neither format


class BadMessage(ValueError):
    """The bytes are not the expected message, or are cut short; the text says where."""


def message(data: memoryview) -> Message:
    """Return every field of one message. Raises BadMessage."""
    fields: Message = {}
    for number, value in _fields(data):
        fields.setdefault(number, []).append(value)
    return fields


def messages(values: Sequence[Value]) -> Iterator[Message]:
    """Yield a repeated field's messages. Raises BadMessage."""
    return (message(_bytes(value)) for value in values)


def text(values: Sequence[Value]) -> str:
    """Return an optional string field, "" where it is absent. Raises BadMessage."""
    try:
        return str(_bytes(values[-1]), "utf-8") if values else ""
    except UnicodeDecodeError as error:
        raise BadMessage("a name in it is not text") from error


def integers(values: Sequence[Value]) -> tuple[int, ...]:
    """Return a repeated integer field, packed or not. Raises BadMessage."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return tuple(found)


def array(values: Sequence[Value], kind: str) -> NDArray[np.generic]:
    """Return a repeated field of NumPy type `kind` ("<f4"), packed or not, 1-D. Raises BadMessage."""
    parts = [_bytes(value) for value in values]
    size = np.dtype(kind).itemsize
    if any(len(part) % size for part in parts):
        raise BadMessage(f"its numbers are not a whole count of {size} bytes each")
    return np.concatenate([np.frombuffer(part, kind) for part in parts] or [np.empty(0, kind)])


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise BadMessage("an integer stands where bytes belong")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise BadMessage(f"byte {start} begins no field")
        if at + length > len(data):
            raise BadMessage(f"field {number} claims {length:,} bytes, only {len(data) - at:,} follow")
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at `at` and where it ends: seven bits in each byte, lowest first; the high bit: more follow."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BadMessage("it ends within a number")
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise BadMessage("a number in it has no end")
