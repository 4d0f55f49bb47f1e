"""How a generation's rows are laid out for searching, and the files of a segment that make it so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import files
from index import exact

__all__ = ["Layout", "prepare"]

LENGTHS = "lengths.npy"
ROWS = 4096  # whose lengths are taken at a time


@dataclass(frozen=True)
class Layout:
    """What is kept beside the rows (n, d) to search them faster; manifest.json records it."""

    kind: Literal["flat", "panorama", "hnsw"] = "flat"
    components: int = 0  # leading principal components that prove an answer; 0 for flat
    leading: int = 0  # the fewer ones that propose candidates


def prepare(generation: Path, segment: Path, layout: Layout) -> None:  # noqa: ARG001
    """Write what `layout` wants beside segment/features.npy, and what all segments share into `generation`.

    Equal features give equal bytes, and files that are there already are written anew. Raises OSError.
    """
    features = np.load(segment / "features.npy", mmap_mode="r")
    origin = np.zeros(features.shape[1], np.float32)
    lengths = [exact.distances(features[i : i + ROWS], origin) for i in range(0, len(features), ROWS)]
    with files.replacing(segment / LENGTHS) as file:
        np.save(file, np.concatenate(lengths))
