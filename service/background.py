"""Threads that leave the processor to those that somebody waits for."""

import os
import sys

__all__ = ["step_back"]


def step_back(steps: int) -> None:
    """Lower the calling thread's priority: 1 is a little, 19 the most. Only Linux has priorities of single threads."""
    if sys.platform == "linux":
        os.nice(steps)
