"""A segment: rows that were published together. Its files never change; later generations share them by hard links.

segments/0003/   features.npy      float32 (n, d), row i belongs to the i-th id
                 ids.npy           int64 (n,), ascending
                 thumbnails.sqlite
                 and what index.layout.prepare writes
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.database import Database
from index.layout import FEATURES, IDS
from index.manifest import BadBundle
from index.stored import mapped_array

__all__ = ["FEATURES", "IDS", "SEGMENTS", "THUMBNAILS", "Segment", "folder"]

SEGMENTS = "segments"
THUMBNAILS = "thumbnails.sqlite"


def folder(name: str) -> str:
    """Return where a generation keeps the segment `name`."""
    return f"{SEGMENTS}/{name}"


class Segment:
    """One segment of a generation, opened for reading."""

    def __init__(self, path: Path) -> None:
        """Map the arrays, and open the thumbnails. Raises BadBundle."""
        self.path, self.name = path, path.name
        self.features: NDArray[np.float32] = mapped_array(path / FEATURES, np.float32, 2)  # (n, d), read only
        self.ids: NDArray[np.int64] = np.array(mapped_array(path / IDS, np.int64, 1))  # (n,)
        if len(self.features) != len(self.ids):
            raise BadBundle(f"{path}: {len(self.features)} rows of features, and {len(self.ids)} image ids")
        self.thumbnails = Database(path / THUMBNAILS)

    def close(self) -> None:
        """Close the thumbnails. The arrays can still be used."""
        self.thumbnails.close()
