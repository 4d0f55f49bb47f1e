"""The folder that a dataset is packed into: for one process at a time, with nothing else in it, with room enough."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import files
from model.data.mapped import BadDataset
from model.data.packed_writer import FILES, Encoding
from model.data.sources import Source

__all__ = ["alone", "check_place"]

# Bytes on disk for each pixel. JPEG of quality 95: 500 of the imagenette photographs took 0.50 reduced to 160 x 160
# and, as they are smoother then, 0.39 enlarged from 224 x 224 to 256 x 256.
BYTES_A_PIXEL = {"raw": 3.0, "jpeg": 0.5}
IMAGES = {"raw": "images.npy", "jpeg": "images.bin"}


def check_place(out: Path, sources: Mapping[str, Source], encoding: Encoding) -> None:
    """Raise BadDataset when `out` holds anything that a packer did not write, or lacks the room for these images.

    The room for JPEG files is an estimate; what an interrupted run has packed already is not needed again.
    """
    ours = {out / name for name in (*sources, ".lock", "mean.npy", "mean.npy.part", "meta.json.part")}
    ours |= {out / split / name for split in sources for name in FILES}
    if strange := sorted(file for place in (out, *map(out.joinpath, sources)) for file in _entries(place) - ours):
        raise BadDataset(f"{out}: not an empty place, it holds {strange[0].relative_to(out)}; choose another")
    needed = sum(len(source) * source.size**2 for source in sources.values()) * BYTES_A_PIXEL[encoding]
    needed -= sum(file.stat().st_size for split in sources for file in (out / split).glob(IMAGES[encoding]))
    if needed > (free := _free(out)):
        advice = "try the encoding jpeg" if encoding == "raw" else "make room or choose another disk"
        raise BadDataset(f"{out}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; {advice}")


def _free(place: Path) -> int:
    """Bytes that may still be written there."""
    return shutil.disk_usage(place).free


def _entries(place: Path) -> set[Path]:
    return set(place.iterdir()) if place.is_dir() else set()


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder against a second process, or until this process ends, however. Raises BadDataset."""
    try:
        lock = files.locked(out / ".lock")
    except files.AlreadyLocked as error:
        raise BadDataset(f"{out}: another process is packing here") from error
    with lock:
        yield
