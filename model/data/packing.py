"""Make packed datasets: on all cores, resumable after a kill, with a list of the images that could not be read."""

import hashlib
import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import files
from model.data.packed import FORMAT, BadDataset, PackedSet
from model.data.packed_writer import Encoding, PackedBlock, PackedWriter, PackingProgress
from model.data.packing_folder import alone, check_place
from model.data.sources import Report, Source
from model.data.threads import ahead, on_all_cores
from model.preprocess import Recipe, stored_image

__all__ = ["Encoding", "pack", "principal_colours"]

BLOCK = 256  # images read ahead and held in memory, 50 MB at S = 256
DURABLE = 16  # blocks between two commits; a killed run continues from the last one
QUALITY = 95  # of stored JPEG, as in the 2012 code's successor


def pack(
    out: Path, sources: Mapping[str, Source], *, encoding: Encoding = "raw", report: Report | None = None
) -> PackedSet:
    """Pack one source for each split ("train" among them) into `out`, or continue where a killed run stopped.

    A dataset that is complete already is returned as it is. Raises BadDataset when `out` holds anything else or is in
    use by another process, when the sources do not belong together, when no training image can be read, and when the
    disk is full (run it again when there is room: finished blocks are kept).
    """
    _check_agreement(sources)
    inputs = {split: _inputs(source, encoding) for split, source in sources.items()}
    with files.translated(out, BadDataset, BadDataset):
        files.make_folder(out)
        with alone(out):
            if not _is_complete(out, inputs):
                check_place(out, sources, encoding)
                splits = {s: _pack_split(out / s, source, encoding, inputs[s], report) for s, source in sources.items()}
                _conclude(out, sources["train"], encoding, splits)
            for split in sources:
                (out / split / "progress.npz").unlink(missing_ok=True)
    return PackedSet.open(out)


def principal_colours(
    moment: NDArray[np.int64], pixel_sum: NDArray[np.int64], images: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues (3,), descending, and eigenvectors (3, 3), one a row, of the covariance of all RGB pixels.

    `moment` (3, 3) is the sum of x x^T over all pixels of all images, `pixel_sum` (S, S, 3) the sum of the images.
    Each vector's largest component is positive, so that the same pixels give the same signs everywhere.
    """
    count = images * pixel_sum.shape[0] * pixel_sum.shape[1]
    mean = pixel_sum.sum(axis=(0, 1)) / count
    values, columns = np.linalg.eigh(moment / count - np.outer(mean, mean))
    vectors = columns.T[::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1, keepdims=True), axis=1)
    return np.maximum(values[::-1], 0.0), vectors * np.sign(largest)


def _pack_split(
    folder: Path, source: Source, encoding: Encoding, inputs: str, report: Report | None
) -> PackingProgress:
    files.make_folder(folder)
    progress = PackingProgress.load(folder, inputs, source.size)
    blocks = (
        _block(source, at, min(at + BLOCK, len(source)), encoding)
        for at in range(progress.position, len(source), BLOCK)
    )
    with PackedWriter(folder, source.size, encoding, progress) as writer:
        for number, block in enumerate(ahead(blocks), start=1):
            writer.append(block)
            if number % DURABLE == 0:
                writer.commit()
            if report:
                report(folder.name, block.stop, len(source))
        writer.write_headers()
        writer.commit()
    return progress


def _block(source: Source, start: int, stop: int, encoding: Encoding) -> PackedBlock:
    images, encoded, labels, names, skipped = [], [], [], [], []
    for item in source.read(start, stop):
        if item.image is None or item.label < 0:
            skipped.append((item.name, item.skipped or "it has no label"))
        else:
            images.append(np.ascontiguousarray(item.image))
            labels.append(item.label)
            names.append(item.name)
    if encoding == "jpeg":
        encoded = on_all_cores(_jpeg, images)
        images = on_all_cores(partial(stored_image, size=source.size), encoded)
    return PackedBlock(stop, images, encoded, labels, names, skipped)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _conclude(out: Path, source: Source, encoding: Encoding, splits: Mapping[str, PackingProgress]) -> None:
    """Write the mean image, and last meta.json, which says that the dataset is complete."""
    train = splits["train"]
    if not train.rows:
        skipped = out / "train" / "skipped.jsonl"
        first = json.loads(skipped.read_text().partition("\n")[0])
        why = f"{first['name']}: {first['reason']} (all are in {skipped})"
        raise BadDataset(f"{out}: none of the {train.position} training images could be packed; {why}")
    mean = (train.pixel_sum / train.rows).astype(np.float32)
    files.replace_array(out / "mean.npy", mean)
    values, vectors = principal_colours(train.moment, train.pixel_sum, train.rows)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "name": out.name,
        "classes": source.classes,
        "size": source.size,
        "encoding": encoding,
        "splits": {split: _about(out / split, progress) for split, progress in splits.items()},
        "mean": hashlib.sha256(mean.tobytes()).hexdigest(),
        "pca": {"eigenvalues": values.tolist(), "eigenvectors": vectors.tolist()},
        "inputs": {split: progress.inputs for split, progress in splits.items()},
    }
    files.replace(out / "meta.json", json.dumps(meta, indent=1).encode())


def _about(folder: Path, progress: PackingProgress) -> dict[str, Any]:
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("labels.npy", "names.txt")}
    return {"rows": progress.rows, "skipped": progress.position - progress.rows, "images": progress.digest, **digests}


def _inputs(source: Source, encoding: Encoding) -> str:
    """SHA-256 of all that decides which bytes are packed: a killed run is not continued by code that makes others."""
    how = f"{FORMAT} {Recipe.version} {encoding} {QUALITY} {BLOCK}"
    return hashlib.sha256(f"{how} {source.identity(0, len(source))}".encode()).hexdigest()


def _is_complete(out: Path, inputs: Mapping[str, str]) -> bool:
    if not (out / "meta.json").exists():
        return False
    try:
        PackedSet.open(out)
    except BadDataset as error:
        raise BadDataset(f"{error} (remove {out} first)") from error
    if json.loads((out / "meta.json").read_text()).get("inputs") != inputs:
        raise BadDataset(f"{out}: already holds a dataset of something else; remove it or choose another place")
    return True


def _check_agreement(sources: Mapping[str, Source]) -> None:
    if "train" not in sources:
        raise BadDataset("a packed dataset needs a split named train")
    train = sources["train"]
    for split, source in sources.items():
        if (source.classes, source.size) != (train.classes, train.size):
            raise BadDataset(f"split {split!r} has other classes or another size than the training images")
