"""Ask the system for the pages of some rows of a mapped file, all at once, before the first is read.

Read one after the other, rows that are not in the page cache wait for the disk one after the other, and each brings
its surroundings along.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ask_for"]

LARGE = 2 << 30  # bytes: a smaller file stays in the page cache, where asking takes longer than reading


def ask_for(features: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
    """Ask for rows (j,) of features (n, d), where those are a large mapped file. Returns before they are there."""
    memory: Any = features.base
    if not isinstance(features, np.memmap) or not isinstance(memory, mmap.mmap) or features.nbytes < LARGE:
        return
    row, begins = features.strides[0], features.offset % mmap.ALLOCATIONGRANULARITY
    for start in (begins + rows * row).tolist():
        page = start - start % mmap.PAGESIZE
        memory.madvise(mmap.MADV_WILLNEED, page, start + row - page)
