"""One generation of a bundle: a self-contained folder that never changes once it is published.

manifest.json           what is in it, and the size and SHA-256 of each other file
checkpoint.safetensors  the network that made the features
segments/               the rows
map.npy                 float32 (n, 2), where there is a map: positions of the images in the plane
removed.npy             int64 (m,), ascending: image ids that segments hold and the collection no longer has
catalogue.sqlite        names, labels, what became of each input
and what index.layout.prepare and the build's measurement have written
"""

import hashlib
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from index.catalogue import Catalogue, NoSuchImage
from index.labels import Labels
from index.layout import Layout
from index.manifest import MANIFEST, BadBundle, DamagedPart, Manifest, Part
from index.map import MAP
from index.segments import Segment, folder
from index.stored import mapped_array

__all__ = ["CATALOGUE", "CHECKPOINT", "REMOVED", "Generation"]

CHECKPOINT, REMOVED, CATALOGUE = "checkpoint.safetensors", "removed.npy", "catalogue.sqlite"
BLOCK = 1 << 20  # bytes that are read at a time


class Generation:
    """A generation, opened for reading; it stays readable after it has been removed from disk."""

    def __init__(self, path: Path) -> None:
        """Check the size of every file. Nothing is read that grows with n but image ids. Raises BadBundle."""
        self.path = path
        self.manifest = manifest = Manifest.read(path / MANIFEST)
        self.number = manifest.number
        try:
            self.layout = Layout(**manifest.index)
        except TypeError as error:
            raise BadBundle(
                f"{path / MANIFEST}: an index that this code does not know: {dict(manifest.index)}"
            ) from error
        for name, part in manifest.parts.items():
            _check_size(path / name, part)
        self.checkpoint = path / CHECKPOINT
        self.segments = tuple(Segment(path / folder(name)) for name in manifest.segments)
        self.removed, self.ids = self._ids()  # (m,) and (n,) int64, ascending
        self.catalogue = Catalogue(path / CATALOGUE, self.segments)
        has_map = self.layout.map != "none"
        self._map: NDArray[np.float32] | None = mapped_array(path / MAP, np.float32, 2) if has_map else None
        self._labels: Labels | None = None
        self._reading_labels = threading.Lock()

    @property
    def labels(self) -> Labels:
        """The labels of all images. They are read when they are first asked for. Raises BadBundle."""
        with self._reading_labels:
            if self._labels is None:
                self._labels = Labels(self.catalogue.classes(), self.catalogue.labels(), self.ids)
            return self._labels

    def rows(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Image ids (k,) -> their features (k, d). Raises NoSuchImage for an id that is not in the collection."""
        wanted = np.asarray(ids, np.int64)
        _, known = _places(wanted, self.ids)
        if not known.all():
            raise NoSuchImage(int(wanted[~known][0]))
        out = np.empty((len(wanted), self.manifest.width), np.float32)
        for segment in self.segments:
            rows, here = _places(wanted, segment.ids)
            out[here] = segment.features[rows[here]]
        return out

    def all_rows(self) -> NDArray[np.float32]:
        """Return the features (n, d) in the order of `ids`: mapped where one segment is all, else a copy."""
        alone = len(self.segments) == 1 and not len(self.removed)
        return self.segments[0].features if alone else self.rows(self.ids)

    def positions(self) -> NDArray[np.float32] | None:
        """Return positions in the plane (n, 2), in the order of `ids`; None without a map. Raises BadBundle."""
        if self._map is not None and self._map.shape != (len(self.ids), 2):
            raise BadBundle(f"{self.path / MAP}: {self._map.shape} positions of {len(self.ids)} images")
        return self._map

    def verify(self, pause: Callable[[], None] = lambda: None) -> None:
        """Read every file, and compare its SHA-256. Raises DamagedPart.

        `pause` is called after every MiB, and may raise. All files are opened before the first is read, so that they
        can be read to the end when the generation is removed meanwhile.
        """
        with ExitStack() as opened:
            parts = self.manifest.parts
            for name, file in [(name, opened.enter_context(self._opened(name))) for name in parts]:
                try:
                    found = _fingerprint(file, pause)
                except OSError as error:
                    raise DamagedPart(self.path, name, f"cannot be read: {error.strerror}") from error
                if found != parts[name].sha256:
                    raise DamagedPart(self.path, name, "not the file that was published (its SHA-256 differs)")

    def close(self) -> None:
        """Close the catalogue and the thumbnails. The arrays can still be used."""
        self.catalogue.close()
        for segment in self.segments:
            segment.close()

    def _opened(self, name: str) -> IO[bytes]:
        try:
            return (self.path / name).open("rb", buffering=0)
        except OSError as error:
            raise DamagedPart(self.path, name, f"cannot be read: {error.strerror}") from error

    def _ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the image ids that are removed, and those that are in the collection. Raises BadBundle."""
        try:
            removed = np.load(self.path / REMOVED, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BadBundle(f"{self.path / REMOVED}: cannot be read: {error}") from error
        held = np.concatenate([np.zeros(0, np.int64), *(segment.ids for segment in self.segments)])
        widths = {segment.features.shape[1] for segment in self.segments}
        ids = held[~np.isin(held, removed, kind="sort")]
        if len(ids) != self.manifest.rows or widths - {self.manifest.width}:
            found = f"{len(ids)} rows of {' or '.join(map(str, sorted(widths)))} numbers"
            raise BadBundle(f"{self.path}: {found}, the manifest says {self.manifest.rows} of {self.manifest.width}")
        if np.any(np.diff(held) <= 0):
            raise BadBundle(f"{self.path}: the image ids of its segments do not ascend")
        return removed, ids


def _places(wanted: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Wanted ids (k,) -> where each would be among ids (n,), n >= 1, ascending, and whether it is there."""
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return rows, ids[rows] == wanted


def _fingerprint(file: IO[bytes], pause: Callable[[], None]) -> str:
    """As `fingerprint`, with a pause after each block."""
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
        pause()
    return digest.hexdigest()


def _check_size(file: Path, part: Part) -> None:
    if not file.is_file():
        raise BadBundle(f"{file}: missing")
    if (size := file.stat().st_size) != part.bytes:
        raise BadBundle(f"{file}: {size} bytes, where the manifest says {part.bytes}")
