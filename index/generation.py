"""One generation of a bundle: a self-contained folder that never changes once it is published.

manifest.json           what is in it: sizes and SHA-256 of the files, fingerprints of what they were made from
checkpoint.safetensors  the network that made the features
features.npy            float32 (n, d); row i belongs to the i-th id
ids.npy                 int64 (n,), ascending
catalogue.sqlite        labels, thumbnails, list of skipped images
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from index.catalogue import Catalogue

__all__ = ["FILES", "MANIFEST", "BadBundle", "Generation", "Manifest", "fingerprint"]

FORMAT = 1
MANIFEST = "manifest.json"
FILES = {
    "checkpoint": "checkpoint.safetensors",
    "features": "features.npy",
    "ids": "ids.npy",
    "catalogue": "catalogue.sqlite",
}


class BadBundle(ValueError):
    """The bundle is missing, damaged, not of this format, or cannot be written; the message says which part."""


@dataclass(frozen=True)
class Manifest:
    """What a generation holds, as manifest.json records it."""

    number: int
    created: str  # UTC, ISO 8601
    rows: int  # n
    width: int  # d
    classes: tuple[str, ...]
    inputs: Mapping[str, str]  # fingerprints of what it was built from: weights, recipe, images
    fingerprints: Mapping[str, str]  # `inputs`, and the SHA-256 of each of FILES
    sizes: Mapping[str, int]  # bytes of each of FILES
    engine: str = "torch"  # that computed the features; the manifests of 0.1.0 do not say it, it was torch
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read manifest.json. Raises BadBundle for a file that is missing, damaged or of another format."""
        try:
            fields = json.loads(path.read_text())
            if fields["format"] != FORMAT:
                raise BadBundle(f"{path}: its format is {fields['format']!r}, this code reads {FORMAT}")
            return cls(**{**fields, "classes": tuple(fields["classes"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, BadBundle):
                raise
            raise BadBundle(f"{path}: not a manifest: {error!r}") from error


class Generation:
    """A published generation, opened for reading; it stays readable after it has been removed from disk."""

    def __init__(self, path: Path, *, verify: bool = False) -> None:
        """Check the size of every file and, with `verify`, its SHA-256. Raises BadBundle."""
        self.path = path
        self.manifest = Manifest.read(path / MANIFEST)
        self.number = self.manifest.number
        for part in FILES:
            self._check(part, verify)
        self.checkpoint = path / FILES["checkpoint"]
        rows, width = self.manifest.rows, self.manifest.width
        self.features: NDArray[np.float32] = self._mapped("features", np.float32, (rows, width))  # (n, d), read only
        self.ids: NDArray[np.int64] = np.array(self._mapped("ids", np.int64, (rows,)))  # (n,)
        try:
            self.catalogue = Catalogue(path / FILES["catalogue"])
        except sqlite3.Error as error:
            raise BadBundle(f"{path}: its catalogue cannot be opened: {error}") from error

    def close(self) -> None:
        """Close the catalogue. The arrays can still be used."""
        self.catalogue.close()

    def _check(self, part: str, verify: bool) -> None:
        file = self.path / FILES[part]
        if not file.is_file():
            raise BadBundle(f"{file}: the {part} file is missing")
        size, expected = file.stat().st_size, self.manifest.sizes.get(part)
        if size != expected:
            raise BadBundle(f"{file}: the {part} file has {size} bytes where the manifest says {expected}")
        if verify and fingerprint(file) != self.manifest.fingerprints.get(part):
            raise BadBundle(f"{file}: the {part} file is not the one that was published (its SHA-256 differs)")

    def _mapped(self, part: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        file = self.path / FILES[part]
        try:
            array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadBundle(f"{file}: the {part} file cannot be read: {error}") from error
        if array.dtype != dtype or array.shape != shape:
            raise BadBundle(f"{file}: the {part} are {array.dtype} {array.shape}, the manifest says {shape}")
        return array


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
