"""Run a trained network: images in, class probabilities and the 4096 features of the last hidden layer out.

The batch job, the service and the evaluation use the same `Embedder`; torch becomes NumPy here. B images, S pixels the
stored side, F the embedding's length (4096).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import BadCheckpoint, Checkpoint
from model.data.sources import Source
from model.data.threads import ahead
from model.device import choose_device
from model.precision import full_float32
from model.preprocess import MAX_PIXELS, network_input, stored_image, ten_views, thumbnail

__all__ = ["EmbeddedBlock", "Embedder", "embed_collection"]

BATCH = {"cpu": 64, "cuda": 1024}  # images in one pass of the network: they fill the device, not its memory


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


class Embedder:
    """A checkpoint's network on a device. Not for two threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        """Raises BadCheckpoint for weights that do not fit their table, NoSuchDevice."""
        if checkpoint.recipe.precision != "float32":
            raise BadCheckpoint(f"this code embeds in float32, the checkpoint asks for {checkpoint.recipe.precision!r}")
        self.checkpoint = checkpoint
        self.classes, self.recipe = checkpoint.classes, checkpoint.recipe
        self.width = checkpoint.table.width
        self.device = choose_device(device)
        self._network = checkpoint.network().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = checkpoint.mean_image.to(self.device)

    def prepare(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Encoded image -> stored image (S, S, 3). Raises BadImage. Safe in any thread."""
        return stored_image(data, self.recipe.stored, max_pixels=max_pixels)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Infer stored images (B, S, S, 3): probabilities (B, classes) and features (B, F) of the central crop."""
        parts = [self._central(batch) for batch in self._batches(images)]
        probabilities, features = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return probabilities, features

    def ten_views(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored images (B, S, S, 3) -> probabilities (B, classes), the mean over ten views (section 4.1)."""
        parts = []
        for batch in self._batches(images):
            views = [self._forward(view)[0] for view in ten_views(batch, self._mean, self.recipe.crop)]
            parts.append(torch.stack(views).mean(dim=0))
        return torch.cat(parts).cpu().numpy()

    def probabilities_of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (B, F) that this network made -> probabilities (B, classes), through its last layer alone."""
        with torch.inference_mode(), full_float32(repeatable=True):
            x = torch.from_numpy(np.ascontiguousarray(features)).to(self.device)
            logits: Tensor = self._network.dense(self.checkpoint.table.last, x, test=True)
            return logits.softmax(dim=1).cpu().numpy()

    def _batches(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH[self.device.type]):
            batch = np.ascontiguousarray(images[start : start + BATCH[self.device.type]])
            yield torch.from_numpy(batch).to(self.device)

    def _central(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self._forward(network_input(batch, self._mean, self.recipe.crop))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), full_float32(repeatable=True):
            logits, features = self._network(x)
            return logits.softmax(dim=1), features


def embed_collection(embedder: Embedder, source: Source, start: int = 0, block: int = 512) -> Iterator[EmbeddedBlock]:
    """Embed a collection from image `start` on, `block` images at a time, in id order.

    While the network works on one block the next one is read and decoded. An image that cannot be read is a row in its
    block's `skipped`, never an error. A block's numbers depend on its images alone, so a job that stops between blocks
    and goes on writes what it would have written. Raises BadCheckpoint when the collection's images have another size.
    """
    if source.size != embedder.recipe.stored:
        raise BadCheckpoint(f"the network reads images of {embedder.recipe.stored} pixels, not of {source.size}")
    reads = (
        partial(_read, source, first, min(first + block, len(source))) for first in range(start, len(source), block)
    )
    for images, read in ahead(reads):
        features = embedder(images)[1] if len(images) else np.empty((0, embedder.width), np.float32)
        yield replace(read, features=features)


def _read(source: Source, start: int, stop: int) -> tuple[NDArray[np.uint8], EmbeddedBlock]:
    """The images (n, S, S, 3) and their block, still without features."""
    items = source.read(start, stop)
    good = [(item, item.image) for item in items if item.image is not None]
    images = [image for _, image in good]
    block = EmbeddedBlock(
        start=start,
        stop=stop,
        ids=np.array([item.image_id for item, _ in good], np.int64),
        names=tuple(item.name for item, _ in good),
        labels=np.array([item.label for item, _ in good], np.int64),
        features=np.empty((0, 0), np.float32),
        thumbnails=tuple(thumbnail(image) for image in images),
        skipped=tuple((item.image_id, item.name, item.skipped) for item in items if item.skipped is not None),
    )
    return np.stack(images) if images else np.empty((0, source.size, source.size, 3), np.uint8), block
