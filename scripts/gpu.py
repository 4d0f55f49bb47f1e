"""Test and measure one GPU with what its machine has installed: one table, one JSON file, in under ten minutes."""

import sys
from importlib.util import find_spec

NEEDED = ("torch", "numpy", "PIL", "safetensors", "tqdm", "tyro", "pytest", "pytest_timeout", "hypothesis")


def missing() -> str:
    """Which of the packages are not here, in one line; empty where all are."""
    names = [name for name in NEEDED if find_spec(name) is None]
    if not names:
        return ""
    return f"gpu.py: {', '.join(names)} missing in {sys.executable}; make gpu PYTHON=... takes another Python"


if __name__ == "__main__":
    if said := missing():
        print(said, file=sys.stderr)
        sys.exit(2)
    from scripts.benchmarks.gpu import Gpu, job
    from scripts.command import run

    run(Gpu, job)
