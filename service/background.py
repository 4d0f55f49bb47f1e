"""Threads that leave the processor to those that somebody waits for."""

import os
import sys

from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread", "step_back"]


def step_back(steps: int) -> None:
    """Lower the calling thread's priority: 1 is a little, 19 the most. Only Linux has priorities of single threads."""
    if sys.platform == "linux":
        os.nice(steps)


def one_blas_thread() -> None:
    """Let NumPy's and FAISS's matrix products use the calling thread alone, from now on, in the whole process.

    OpenBLAS's other threads go on at full speed for 0.1 s after each product. They took the cores from the network and
    the search: on two cores a batch of four took 123 ms, and 31 ms without them. The products themselves are small.
    """
    threadpool_limits(limits=1, user_api="blas")
