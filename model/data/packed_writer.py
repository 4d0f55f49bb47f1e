"""Write one split's files block by block, and continue after a kill.

The files only grow. `progress.npz` says how much of each is on the disk; a run that continues cuts them back to that.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import files

__all__ = ["FILES", "Encoding", "PackedBlock", "PackedWriter", "PackingProgress"]

Encoding = Literal["raw", "jpeg"]

FILES_OF = {
    "raw": ("labels.npy", "names.txt", "skipped.jsonl", "images.npy"),
    "jpeg": ("labels.npy", "names.txt", "skipped.jsonl", "offsets.npy", "images.bin"),
}
FILES = {*FILES_OF["raw"], *FILES_OF["jpeg"], "progress.npz", "progress.npz.part"}


@dataclass
class PackingProgress:
    """How much of one split is on the disk."""

    inputs: str  # what was being packed, and how
    position: int  # images read
    rows: int  # images packed
    digest: str  # SHA-256 chain over the blocks' image bytes
    lengths: dict[str, int]  # bytes of each growing file
    pixel_sum: NDArray[np.int64]  # (S, S, 3)
    moment: NDArray[np.int64]  # (3, 3): sum of x x^T over RGB pixels x

    @classmethod
    def load(cls, folder: Path, inputs: str, size: int) -> "PackingProgress":
        """Return what an earlier run with the same inputs has done, or a fresh start."""
        found: PackingProgress | None = None
        try:
            with open(folder / "progress.npz", "rb") as file, np.load(file) as kept:
                found = cls(**json.loads(str(kept["said"])), pixel_sum=kept["pixel_sum"], moment=kept["moment"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            pass  # none, or not ours: nothing of it is trusted
        if found is not None and found.inputs == inputs and found.is_there(folder):
            return found
        return cls(inputs, 0, 0, "", {}, np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64))

    def is_there(self, folder: Path) -> bool:
        """Return whether every file is at least as long as it was."""
        lengths = [(folder / name, length) for name, length in self.lengths.items()]
        return all(file.is_file() and file.stat().st_size >= length for file, length in lengths)

    def save(self, folder: Path) -> None:
        """Replace the saved progress in one step."""
        said = {key: getattr(self, key) for key in ("inputs", "position", "rows", "digest", "lengths")}
        kept = io.BytesIO()
        np.savez(kept, said=np.array(json.dumps(said)), pixel_sum=self.pixel_sum, moment=self.moment)
        files.replace(folder / "progress.npz", kept.getvalue())

    def add(self, block: "PackedBlock") -> None:
        """Count a block that was written. The sums are integers, so that an interruption changes no bit of them."""
        content = hashlib.sha256(bytes.fromhex(self.digest))
        for file in block.files:
            content.update(file)
        if not block.files:
            for image in block.images:
                content.update(image.data)
        self.digest = content.hexdigest()
        for image in block.images:
            self.pixel_sum += image
            colours = image.reshape(-1, 3).astype(np.float64)  # sums below 2^53: exact
            self.moment += (colours.T @ colours).astype(np.int64)
        self.position, self.rows = block.stop, self.rows + len(block.images)


@dataclass(frozen=True)
class PackedBlock:
    """Neighbouring images, ready to be written."""

    stop: int  # position of the first image after it
    images: Sequence[NDArray[np.uint8]]  # b of (S, S, 3), C-contiguous, as a reader will see them
    files: Sequence[bytes]  # encoding "jpeg": the same as JPEG files
    labels: Sequence[int]  # (b,)
    names: Sequence[str]  # (b,)
    skipped: Sequence[tuple[str, str]]  # name, reason


class PackedWriter:
    """Writes one split's files, from where `progress` stands; a context manager."""

    def __init__(self, folder: Path, size: int, encoding: Encoding, progress: PackingProgress) -> None:
        self.folder, self.size, self.encoding, self.progress = folder, size, encoding, progress
        if not progress.lengths:
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
        self.files = {name: _opened(folder / name, progress.lengths.get(name, 0)) for name in FILES_OF[encoding]}
        if not progress.lengths:
            self.write_headers()
            if encoding == "jpeg":
                files.write_all(self.files["offsets.npy"], np.zeros(1, np.int64).data)

    def __enter__(self) -> "PackedWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()

    def append(self, block: PackedBlock) -> None:
        """Write a block. It survives a kill from the next `commit` on."""
        if self.encoding == "raw":
            for image in block.images:
                files.write_all(self.files["images.npy"], image.data)
        else:
            ends = self.files["images.bin"].tell() + np.cumsum([len(file) for file in block.files], dtype=np.int64)
            files.write_all(self.files["images.bin"], b"".join(block.files))
            files.write_all(self.files["offsets.npy"], ends.data)
        lines = [json.dumps({"name": name, "reason": reason}) for name, reason in block.skipped]
        files.write_all(self.files["labels.npy"], np.array(block.labels, np.int64).data)
        files.write_all(self.files["names.txt"], "".join(f"{name}\n" for name in block.names).encode())
        files.write_all(self.files["skipped.jsonl"], "".join(f"{line}\n" for line in lines).encode())
        self.progress.add(block)

    def commit(self) -> None:
        """Make all that was written so far survive a kill or a power cut."""
        for name, file in self.files.items():
            os.fsync(file.fileno())
            self.progress.lengths[name] = file.tell()
        self.progress.save(self.folder)

    def write_headers(self) -> None:
        """Write each array's present length into its header, which has the same size for any length."""
        rows, side = self.progress.rows, self.size
        shapes = {"labels.npy": (rows,), "offsets.npy": (rows + 1,), "images.npy": (rows, side, side, 3)}
        for name in shapes.keys() & self.files.keys():
            kind = np.uint8 if name == "images.npy" else np.int64
            file = self.files[name]
            file.seek(0)
            files.write_all(file, files.npy_header(kind, shapes[name]))
            file.seek(0, os.SEEK_END)


def _opened(path: Path, length: int) -> io.FileIO:
    file = io.FileIO(path, "r+" if path.exists() else "w+")
    file.truncate(length)
    file.seek(length)
    return file
