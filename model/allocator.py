"""Keep large freed blocks of memory instead of returning them to the system.

glibc maps every block of 32 MB and more afresh and unmaps it when freed, so each training step or batch pays for the
pages of its activations again: on two cores that is a fifth to a third of a step (scripts/benchmark.py train has the
figure). With a GPU, or another C library, nothing is done.
"""

import ctypes
import platform

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX, TOP_PAD = -1, -4, -2  # malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc's allocator, for this process, never to map a block by itself nor to give the heap's end back.

    The process then holds what it needed at its peak. Returns whether that was done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1) and mallopt(TOP_PAD, 64 * 2**20))
