"""Held-out queries, which a generation keeps to be measured with again: queries.npy and queries.json.

queries.npy   float32 (q, d): features
queries.json  names, and labels as names of classes, because another generation may number its classes otherwise
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import files
from index.manifest import BadBundle

__all__ = ["Queries"]

FEATURES, ABOUT = "queries.npy", "queries.json"


@dataclass(frozen=True)
class Queries:
    """q images that are not in the collection."""

    features: NDArray[np.float32]  # (q, d)
    names: tuple[str, ...]
    labels: tuple[str | None, ...]  # class names
    source: str | None  # key of the source that they were kept out of; None: they are of another split of its dataset

    @classmethod
    def read(cls, folder: Path) -> "Queries | None":
        """Read a generation's queries; None where it has none. Raises BadBundle for files that cannot be used."""
        if not (folder / ABOUT).exists():
            return None
        try:
            about = json.loads((folder / ABOUT).read_text("utf-8"))
            features: NDArray[np.float32] = np.load(folder / FEATURES, allow_pickle=False)
            queries = cls(features, tuple(about["names"]), tuple(about["labels"]), about["source"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise BadBundle(f"{folder / ABOUT}: not the queries of a generation: {error!r}") from error
        if features.ndim != 2 or features.dtype != np.float32:
            raise BadBundle(f"{folder / FEATURES}: {features.shape} {features.dtype} is not (q, d) float32")
        if not len(features) == len(queries.names) == len(queries.labels):
            raise BadBundle(f"{folder / ABOUT}: {len(queries.names)} queries, {FEATURES} has {len(features)}")
        return queries

    def write(self, folder: Path) -> None:
        """Write both files. Raises OSError."""
        files.replace_array(folder / FEATURES, self.features)
        about = {"source": self.source, "names": self.names, "labels": self.labels}
        files.replace(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())

    def class_ids(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Labels as positions in `classes`, (q,); -1 where there is none, or no such class."""
        numbers = {name: number for number, name in enumerate(classes)}
        return np.array([-1 if label is None else numbers.get(label, -1) for label in self.labels], np.int64)
