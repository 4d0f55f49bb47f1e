"""Arrays and FAISS indexes in a generation's files. What cannot be read is told by the file's name."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import DTypeLike, NDArray

import files
from index.manifest import BadBundle

__all__ = ["mapped_array", "mapped_index", "write_index"]


def mapped_array(file: Path, dtype: DTypeLike, dimensions: int) -> NDArray[Any]:
    """Map a .npy file, read only. Raises BadBundle for a file that holds something else."""
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadBundle(f"{file}: cannot be read: {error}") from error
    if array.dtype != dtype or array.ndim != dimensions:
        raise BadBundle(
            f"{file}: should hold {np.dtype(dtype)} in {dimensions} dimensions, not {array.dtype} {array.shape}"
        )
    return array


def mapped_index(file: Path) -> Any:
    """Map an index that `write_index` wrote. Raises BadBundle for a file that holds something else."""
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:  # its message is about FAISS's source code
        raise BadBundle(f"{file}: cannot be read: not an index of FAISS, or not a whole one") from error


def write_index(file: Path, index: faiss.Index) -> None:
    """Write a FAISS index. Raises OSError.

    FAISS would open the file itself when it is given a name. But when the last bytes find no room on the disk, it says
    so on stderr alone, and the file stays cut short.
    """
    with files.replacing(file) as opened:
        faiss.write_index(index, faiss.PyCallbackIOWriter(opened.write))  # type: ignore[attr-defined]  # not in the stubs
