"""Take a whole collection through the network: an iterator of blocks, which the index stores.

S pixels the stored side, F the embedding's length (4096).
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import BadCheckpoint
from model.data.sources import Entry, Source
from model.data.threads import ahead
from model.preprocess import Recipe

__all__ = ["EmbeddedBlock", "Embeds", "embed_collection"]

LEAST = 128  # images in a block: each block is synced to the disk


class Embeds(Protocol):
    """What is needed of an Embedder."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def width(self) -> int: ...
    @property
    def batch(self) -> int: ...
    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class EmbeddedBlock:
    """The images start <= id < stop, n of which were embedded.

    Of the others an entry with a content is equal to an image that is known already, and one without was skipped.
    """

    start: int
    stop: int
    entries: tuple[Entry, ...]  # stop - start, in order
    ids: NDArray[np.int64]  # (n,), ascending
    features: NDArray[np.float32]  # (n, F)
    thumbnails: tuple[bytes, ...]  # n encoded images
    identity: str  # of the images start <= id < stop, before they were read: Source.identity


def embed_collection(
    embedder: Embeds, source: Source, start: int = 0, known: Iterable[str] = (), block: int | None = None
) -> Generator[EmbeddedBlock, None, None]:
    """Embed a collection from image `start` on, `block` images at a time, in id order.

    While the caller works on one block, a thread takes the next one through the network, and another reads and decodes
    the one after that. Close the generator, or take all blocks, before the embedder is used for anything else: closing
    waits for the block that is in the network. `block` is two passes of the network, and at least LEAST, if not given.

    Equal content is embedded once: neither what is in `known`, the contents that the index has already, nor what came
    earlier. An image that cannot be read has its reason in its block's entry, never an error; any other error is raised
    after the blocks before it. A block depends on its images and on the contents before them alone, so a job that stops
    between blocks and goes on writes what it would have written. Raises BadCheckpoint when the collection's images have
    another size.
    """
    if source.size != embedder.recipe.stored:
        raise BadCheckpoint(f"the network reads images of {embedder.recipe.stored} pixels, not of {source.size}")
    step, seen = block or max(LEAST, 2 * embedder.batch), set(known)
    reads = (_read(source, first, min(first + step, len(source)), seen) for first in range(start, len(source), step))
    return ahead(_embedded(embedder, ahead(reads)))


def _embedded(
    embedder: Embeds, reads: Generator[tuple[NDArray[np.uint8], EmbeddedBlock], None, None]
) -> Generator[EmbeddedBlock, None, None]:
    with closing(reads):
        for images, read in reads:
            features = embedder(images)[1] if len(images) else np.empty((0, embedder.width), np.float32)
            yield replace(read, features=features)


def _read(source: Source, start: int, stop: int, seen: set[str]) -> tuple[NDArray[np.uint8], EmbeddedBlock]:
    """The images (n, S, S, 3) whose contents are new, which `seen` is told of, and their block without features."""
    identity = source.identity(start, stop)  # first: what changes from here on is found changed by the next build
    items = source.read(start, stop, seen)
    images, ids, thumbnails = list[NDArray[np.uint8]](), list[int](), list[bytes]()
    for item in items:
        if item.image is None or item.content is None or item.thumbnail is None or item.content in seen:
            continue
        seen.add(item.content)
        images.append(item.image)
        ids.append(item.image_id)
        thumbnails.append(item.thumbnail)
    block = EmbeddedBlock(
        start=start,
        stop=stop,
        entries=tuple(Entry(i.image_id, i.name, i.label, i.state, i.content, i.skipped) for i in items),
        ids=np.array(ids, np.int64),
        features=np.empty((0, 0), np.float32),
        thumbnails=tuple(thumbnails),
        identity=identity,
    )
    return np.stack(images) if images else np.empty((0, source.size, source.size, 3), np.uint8), block
