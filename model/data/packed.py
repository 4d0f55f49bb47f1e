"""A packed dataset: one folder with prepared images and all that training needs to know about them.

data/<name>/meta.json          written last, by rename: where it is, the rest is complete
            mean.npy           float32 (S, S, 3): the mean training image
            <split>/images.npy uint8 (n, S, S, 3), memory-mapped                        (encoding "raw")
                    images.bin offsets.npy: n JPEG files end to end, int64 (n + 1,)     (encoding "jpeg")
                    labels.npy int64 (n,): class ids, -1 unknown
                    names.txt  a line for each row: the file that it came from
                    skipped.jsonl a line for each file that could not be packed: its name and why
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.mapped import BadDataset, array, content, text
from model.data.pixels import JpegPixels, Pixels, RawPixels, Rows

__all__ = ["FORMAT", "BadDataset", "PackedSet", "Rows", "Split"]

FORMAT = 1  # of the folder's layout


@dataclass(frozen=True)
class Split:
    """n rows for one purpose: training, validation or test."""

    folder: Path
    labels: NDArray[np.int64]  # (n,)
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return a copy of the rows' images, uint8 (b, S, S, 3), C-contiguous, in `out` where it is given.

        Raises IndexError for a row that is not there, ValueError for an `out` of another shape.
        """
        return self.pixels.read(rows, out)

    @cached_property
    def names(self) -> Sequence[str]:
        """The file that each row came from, "frog/0001.png"; read at the first use."""
        names = text(self.folder / "names.txt").split("\n")[:-1]
        if len(names) != len(self):
            raise BadDataset(f"{self.folder / 'names.txt'}: {len(names)} names for {len(self)} images; pack it again")
        return names

    @cached_property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(name, reason) of each file that could not be packed."""
        lines = text(self.folder / "skipped.jsonl").splitlines()
        return tuple((row["name"], row["reason"]) for row in map(json.loads, lines))


@dataclass(frozen=True)
class PackedSet:
    """A packed dataset, opened and checked; images stay on disk."""

    path: Path
    name: str
    classes: tuple[str, ...]
    size: int  # S, pixels
    encoding: str  # "raw" or "jpeg"
    mean_image: NDArray[np.float32]  # (S, S, 3), 0-255
    pca: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Eigenvalues (3,), descending, and eigenvectors (3, 3), one a *row*, of the RGB covariance of all training pixels
    on the 0-255 scale (section 4.1): noise is (alpha * scale of the eigenvalues) @ eigenvectors."""
    splits: tuple[str, ...]  # "train" first
    fingerprint: str  # SHA-256 of images, labels, names and classes; not of the folder's name

    @classmethod
    def open(cls, path: Path | str) -> "PackedSet":
        """Open `path` and check sizes and shapes; the images are not read. Raises BadDataset."""
        path = Path(path)
        meta = _meta(path)
        try:
            opened = cls(
                path=path,
                name=str(meta["name"]),
                classes=tuple(meta["classes"]),
                size=int(meta["size"]),
                encoding=str(meta["encoding"]),
                mean_image=np.array(array(path / "mean.npy", np.float32, (meta["size"], meta["size"], 3))),
                pca=(np.array(meta["pca"]["eigenvalues"]), np.array(meta["pca"]["eigenvectors"])),
                splits=tuple(meta["splits"]),
                fingerprint=_fingerprint(meta),
            )
            rows = {split: int(about["rows"]) for split, about in meta["splits"].items()}
        except BadDataset:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadDataset(f"{path / 'meta.json'}: not what this code wrote ({error!r}); pack it again") from error
        for split in opened.splits:
            opened._open_split(split, rows[split])
        return opened

    def split(self, name: str) -> Split:
        """Return the split of that name. Raises BadDataset when there is none."""
        if name not in self.splits:
            raise BadDataset(f"{self.path}: no split {name!r}; it has {', '.join(self.splits)}")
        return self._open_split(name, None)

    def _open_split(self, name: str, rows: int | None) -> Split:
        folder = self.path / name
        labels = np.array(array(folder / "labels.npy", np.int64, (rows,)))
        if len(labels) and not -1 <= labels.min() <= labels.max() < len(self.classes):
            raise BadDataset(f"{folder / 'labels.npy'}: labels outside 0 to {len(self.classes) - 1}, the classes' ids")
        return Split(folder, labels, self._pixels(folder, len(labels)))

    def _pixels(self, folder: Path, rows: int) -> Pixels:
        if self.encoding == "raw":
            return RawPixels(array(folder / "images.npy", np.uint8, (rows, self.size, self.size, 3)))
        offsets = np.array(array(folder / "offsets.npy", np.int64, (rows + 1,)))
        data = content(folder / "images.bin")
        if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise BadDataset(f"{folder / 'images.bin'}: {len(data)} bytes, not the {offsets[-1]} that were packed")
        return JpegPixels(data, offsets, self.size)


def _fingerprint(meta: dict[str, Any]) -> str:
    """SHA-256 of classes, size, encoding and each split's content; the dataset's name does not count."""
    said = {key: meta[key] for key in ("classes", "size", "encoding", "splits", "mean")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _meta(path: Path) -> dict[str, Any]:
    file = path / "meta.json"
    if not file.is_file():
        raise BadDataset(f"{path}: no meta.json, so not a complete packed dataset; make one with prepare_dataset.py")
    try:
        meta = json.loads(file.read_text())
    except ValueError as error:
        raise BadDataset(f"{file}: not JSON ({error}); pack it again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise BadDataset(f"{file}: not a packed dataset of format {FORMAT}; pack it again")
    return meta
