"""The rows and the queries of the index benchmark, and the folder that every form reads."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import Bundle
from model import Embedder, PackedSet, load_checkpoint
from model.evaluation import check_size
from scripts.benchmarks.retrieval import held_out
from scripts.benchmarks.settings import Index
from scripts.command import Refused

__all__ = ["inputs", "lay_out"]

BLOCK = 4096  # rows copied together


def inputs(config: Index) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The features (n, d), memory-mapped, and the queries (q, d)."""
    if (config.features is None) != (config.queries is None):
        raise Refused("give --features and --queries together, or neither: a bundle's, and a dataset's images")
    if config.features and config.queries:
        features, queries = (_loaded(path) for path in (config.features, config.queries))
        if features.shape[1] != queries.shape[1]:
            raise Refused(f"{config.queries}: {queries.shape[1]} numbers a row, the features have {features.shape[1]}")
        return features, queries[: max(config.checked, config.batch)]
    generation, packed = Bundle(config.bundle).current(), PackedSet.open(config.data)
    checkpoint = load_checkpoint(generation.checkpoint)
    check_size(str(config.bundle), checkpoint, packed)
    images = held_out(packed, config.split)[0][: max(config.checked, config.batch)]
    return generation.all_rows(), Embedder(checkpoint, "cpu")(images)[1]


def _loaded(path: Path) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: no .npy file of features: {error}") from error
    if array.ndim != 2 or array.dtype != np.float32 or not array.size:
        raise Refused(f"{path}: {array.dtype} {array.shape}, float32 (rows, numbers) is accepted")
    return array


def lay_out(folder: Path, features: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
    """Write what the forms read: the features are a link to their file where they are all of it, else a copy."""
    free, rows = shutil.disk_usage(folder).free, folder / "features.npy"
    if free < 2 * features.nbytes:
        raise Refused(f"{folder.parent}: {2 * features.nbytes / 1e9:,.1f} GB are needed there; give another --scratch")
    np.save(folder / "queries.npy", queries)
    file = Path(getattr(features, "filename", None) or folder)  # of a memory-mapped array
    if file.is_file() and np.load(file, mmap_mode="r").shape == features.shape:
        rows.symlink_to(file.resolve())
        return
    copy = np.lib.format.open_memmap(rows, "w+", np.float32, features.shape)
    for start in range(0, len(features), BLOCK):
        copy[start : start + BLOCK] = features[start : start + BLOCK]
    copy.flush()
