"""Map a dataset's files into memory and check their dtypes and shapes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BadDataset", "array", "content", "text"]


class BadDataset(ValueError):
    """A dataset that is missing, incomplete, damaged or unusable; the message says what to do."""


def array(file: Path, kind: type[np.generic], shape: Sequence[int | None]) -> NDArray[Any]:
    """Memory-map an .npy file of this dtype and shape (None: any length). Raises BadDataset."""
    array = _readable(file, lambda: np.load(file, mmap_mode="r", allow_pickle=False))
    fits = len(array.shape) == len(shape) and all(
        want in (None, got) for got, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != kind or not fits:
        wanted = tuple("any" if side is None else side for side in shape)
        raise BadDataset(f"{file}: {array.dtype} {array.shape} where {kind.__name__} {wanted} belongs; pack it again")
    return np.asarray(array)


def content(file: Path) -> NDArray[np.uint8]:
    """Memory-map a file's bytes, uint8 (n,). Raises BadDataset."""
    if _readable(file, lambda: file.stat().st_size) == 0:  # there is nothing to map
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(file, np.uint8, "r"))


def text(file: Path) -> str:
    return str(_readable(file, lambda: file.read_text("utf-8")))


def _readable(file: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else "truncated or damaged"
        raise BadDataset(f"{file}: {reason or error}; pack it again") from error
