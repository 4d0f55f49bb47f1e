"""Keep large freed blocks of memory instead of returning them to the system.

glibc maps every block of 32 MB and more afresh and unmaps it when freed, so each training step or batch pays again for
the pages of its activations; `scripts/benchmark.py train --no-allocator` shows how much. Where the C library is another
one, nothing is done.
"""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX, TOP_PAD = -1, -4, -2  # malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc, for this process, to take large blocks from the heap too, and to keep the heap's end.

    The process then holds the memory that it needed at its peak. Return whether that was done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1) and mallopt(TOP_PAD, 64 * 2**20))
