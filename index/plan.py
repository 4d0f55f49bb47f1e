"""What a build makes, the file that records it, and the check that a block of images fits it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

import files
from index.catalogue_writer import Block
from index.generation import BadBundle

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """What a build makes. Equal plans and equal images give equal generations."""

    number: int  # of the generation
    inputs: Mapping[str, str]  # fingerprints, `weights` and `recipe` among them; the images have theirs by blocks
    total: int  # images in the collection, including those that will be skipped
    width: int  # d
    engine: str  # that computes the features: another rounds them in another way
    classes: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the plan in a file, or None when there is no file or no plan in it."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{**fields, "classes": tuple(fields["classes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Write the plan to a file. Raises OSError; the old file stays."""
        files.replace(path, json.dumps(asdict(self)).encode())

    def continues(self, other: Self) -> bool:
        """Return True when blocks made for the other plan fit this one: number and total alone may differ."""
        return replace(self, number=other.number, total=other.total) == other

    def check(self, block: Block, done: int) -> None:
        """Raise BadBundle unless the block starts after the `done` images and accounts for each of its own images."""
        n = len(block.ids)
        place = f"images {block.start} to {block.stop}"
        if block.start != done or not block.start < block.stop <= self.total:
            raise BadBundle(f"{place} do not follow the {done} of {self.total} that are done")
        accounted = sorted([*block.ids.tolist(), *(image_id for image_id, _, _ in block.skipped)])
        if accounted != list(range(block.start, block.stop)) or np.any(np.diff(block.ids) <= 0):
            raise BadBundle(f"{place}: each must be either embedded, in ascending order, or skipped")
        if block.features.shape != (n, self.width) or block.features.dtype != np.float32:
            found = f"{block.features.shape} {block.features.dtype}"
            raise BadBundle(f"{place}: features should be {(n, self.width)} float32, not {found}")
        if not {len(block.names), len(block.labels), len(block.thumbnails)} == {n}:
            raise BadBundle(f"{place}: {n} images need as many names, labels and thumbnails")
        if not np.isfinite(block.features).all():
            raise BadBundle(f"{place}: features that are not finite; the network is broken")
