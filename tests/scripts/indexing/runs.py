"""Runs of scripts/build_index.py in this process, over a few small images."""

from pathlib import Path

import pytest

from index import Bundle
from scripts.build_index import Config, job
from tests.images import encoded, photograph

PLANNED = 3  # lines of the planner: which layout and why, its bytes, its time


def photo(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(photograph(seed=seed)))
    return file


def said(config: Config, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the job, and return the lines that it printed, without those of the planner."""
    job(config)
    lines = capsys.readouterr().out.splitlines()
    planned = [number for number, line in enumerate(lines) if line.startswith("index: ")]
    for number in reversed(planned):
        del lines[number : number + PLANNED]
    return lines


def names(bundle: Path) -> dict[int, tuple[str, ...]]:
    """Every image of the current generation, and its names."""
    generation = Bundle(bundle).current()
    found = {int(image_id): generation.catalogue.image(int(image_id)).names for image_id in generation.ids}
    generation.close()
    return found
