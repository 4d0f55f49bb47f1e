"""Take a whole collection through the network: an iterator of blocks, which the index stores.

S pixels the stored side, F the embedding's length (4096).
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import BadCheckpoint
from model.data.sources import Source
from model.data.threads import ahead
from model.embed import Embedder

__all__ = ["EmbeddedBlock", "embed_collection"]

LEAST = 128  # images in a block: each block is synced to the disk


@dataclass(frozen=True)
class EmbeddedBlock:
    """The embeddings of images start <= id < stop; n of them could be read."""

    start: int
    stop: int
    ids: NDArray[np.int64]  # (n,), ascending
    names: tuple[str, ...]  # n
    labels: NDArray[np.int64]  # (n,), class ids, -1 unknown
    features: NDArray[np.float32]  # (n, F)
    thumbnails: tuple[bytes, ...]  # n encoded images
    skipped: tuple[tuple[int, str, str], ...]  # id, name and reason of each image that could not be read
    identity: str  # of the images start <= id < stop, before they were read: Source.identity


def embed_collection(
    embedder: Embedder, source: Source, start: int = 0, block: int | None = None
) -> Generator[EmbeddedBlock, None, None]:
    """Embed a collection from image `start` on, `block` images at a time, in id order.

    While the caller works on one block, a thread takes the next one through the network, and another reads and decodes
    the one after that. Close the generator, or take all blocks, before the embedder is used for anything else: closing
    waits for the block that is in the network. `block` is two passes of the network, and at least LEAST, if not given.

    An image that cannot be read is a row in its block's `skipped`, never an error; any other error is raised after the
    blocks before it. A block's numbers depend on its images alone, so a job that stops between blocks and goes on
    writes what it would have written. Raises BadCheckpoint when the collection's images have another size.
    """
    if source.size != embedder.recipe.stored:
        raise BadCheckpoint(f"the network reads images of {embedder.recipe.stored} pixels, not of {source.size}")
    step = block or max(LEAST, 2 * embedder.batch)
    reads = (_read(source, first, min(first + step, len(source))) for first in range(start, len(source), step))
    return ahead(_embedded(embedder, ahead(reads)))


def _embedded(
    embedder: Embedder, reads: Generator[tuple[NDArray[np.uint8], EmbeddedBlock], None, None]
) -> Generator[EmbeddedBlock, None, None]:
    with closing(reads):
        for images, read in reads:
            features = embedder(images)[1] if len(images) else np.empty((0, embedder.width), np.float32)
            yield replace(read, features=features)


def _read(source: Source, start: int, stop: int) -> tuple[NDArray[np.uint8], EmbeddedBlock]:
    """The images (n, S, S, 3) and their block, still without features."""
    identity = source.identity(start, stop)  # first: what changes from here on is found changed by the next build
    items = source.read(start, stop, thumbnails=True)
    good = [item for item in items if item.image is not None]
    images = [item.image for item in good if item.image is not None]
    block = EmbeddedBlock(
        start=start,
        stop=stop,
        ids=np.array([item.image_id for item in good], np.int64),
        names=tuple(item.name for item in good),
        labels=np.array([item.label for item in good], np.int64),
        features=np.empty((0, 0), np.float32),
        thumbnails=tuple(item.thumbnail for item in good if item.thumbnail is not None),
        skipped=tuple((item.image_id, item.name, item.skipped) for item in items if item.skipped is not None),
        identity=identity,
    )
    return np.stack(images) if images else np.empty((0, source.size, source.size, 3), np.uint8), block
