"""Random choices of a test that another run can repeat."""

import os
import random
import sys

__all__ = ["dice"]


def dice() -> random.Random:
    """Return a source of choices. Its seed is printed, so that a failed test shows it; KILL_SEED=<seed> repeats it."""
    seed = os.environ.get("KILL_SEED") or str(random.SystemRandom().randrange(10**6))
    sys.stdout.write(f"KILL_SEED={seed} repeats this\n")
    return random.Random(seed)
