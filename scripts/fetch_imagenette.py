"""Get Imagenette, check the archive, and pack it for training."""

import os
from dataclasses import dataclass
from pathlib import Path

from model.data.download import cache_folder
from model.data.imagenette import fetch
from model.progress import counting
from scripts.command import run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Get Imagenette, ImageNet photographs of ten classes (13,394, 99 MB), check it, and pack it at 128 x 128 pixels.

    It is downloaded from its home to the cache ($XDG_CACHE_HOME/fc7 or ~/.cache/fc7), unless a --source is given.
    After a stop, run it again: it continues.
    """

    out: Path = Path("data/imagenette")
    """Folder for the packed dataset, 660 MB."""
    source: Path | None = None
    """Its archive (.tgz or .tar) or the unpacked folder, or a folder that holds one of these."""


def job(config: Config) -> None:
    """Fetch, then print what is there."""
    packed = fetch(config.out, config.source, cache_folder(os.environ), counting("MB"), counting("images"))
    rows = ", ".join(f"{len(packed.split(name)):,} {name}" for name in packed.splits)
    left_out = sum(len(packed.split(name).skipped) for name in packed.splits)
    of = f"{packed.size} x {packed.size} pixels, {len(packed.classes)} classes"
    print(f"{config.out}: {rows}, {left_out} left out, {of}")


if __name__ == "__main__":
    run(Config, job)
