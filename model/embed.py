"""A trained network at work: images in, class probabilities and the 4096 features of the last hidden layer out.

The batch job, the service and the evaluation use the same `Embedder`. B images, S pixels the stored side, C the crop's,
F the embedding's length (4096).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.forward.engines import EngineName, open_forward
from model.preprocess import MAX_PIXELS, network_input, stored_image, ten_views

__all__ = ["Embedder"]

PIXELS = {
    "cpu": 1 << 22,
    "cuda": 1 << 26,
}  # of network input in one pass: 83 crops of 224 x 224 on a CPU, 1,337 on a GPU
VIEWS = 10

Features = NDArray[np.float32]
Probabilities = NDArray[np.float32]


class Embedder:
    """A checkpoint's network on a device. Not for two threads at once."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", engine: EngineName = "auto") -> None:
        """Raises BadCheckpoint for weights that do not fit their table, NoSuchDevice, NoSuchEngine."""
        self.checkpoint = checkpoint
        self.classes, self.recipe = checkpoint.classes, checkpoint.recipe
        self.width = checkpoint.table.width
        self.forward = open_forward(checkpoint, device, engine)  # the network alone: its input -> logits, features
        self.engine, self.device = self.forward.engine, self.forward.device
        self._mean = self.forward.array(checkpoint.mean_image)

    @property
    def batch(self) -> int:
        """Images in one pass of the network, a power of two: as many as fill the device, up to 256 on a CPU."""
        kind = self.device.partition(":")[0]
        return min(1 << (PIXELS[kind] // self.recipe.crop**2).bit_length() - 1, 256 if kind == "cpu" else 8192)

    def prepare(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Encoded image -> stored image (S, S, 3). Raises BadImage. Safe in any thread."""
        return stored_image(data, self.recipe.stored, max_pixels=max_pixels)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[Probabilities, Features]:
        """Infer stored images (B, S, S, 3): probabilities (B, classes) and features (B, F) of the central crop."""
        probabilities = np.empty((len(images), len(self.classes)), np.float32)
        features = np.empty((len(images), self.width), np.float32)
        for rows in _slices(len(images), self.batch):
            x = network_input(self.forward.array(images[rows]), self._mean, self.recipe.crop)
            logits, features[rows] = self.forward(x)
            probabilities[rows] = _softmax(logits)
        return probabilities, features

    def ten_views(self, images: NDArray[np.uint8]) -> Probabilities:
        """Stored images (B, S, S, 3) -> probabilities (B, classes), the mean over ten views (section 4.1)."""
        probabilities = np.empty((len(images), len(self.classes)), np.float32)
        for rows in _slices(len(images), max(1, self.batch // VIEWS)):
            views = list(ten_views(self.forward.array(images[rows]), self._mean, self.recipe.crop))
            logits, _ = self.forward(self.forward.joined(views))
            of_views = _softmax(logits).reshape(VIEWS, -1, len(self.classes))
            probabilities[rows] = of_views.mean(axis=0)
        return probabilities

    def probabilities_of(self, features: Features) -> Probabilities:
        """Features (B, F) that this network made -> probabilities (B, classes), through its last layer alone."""
        table, weights = self.checkpoint.table, self.checkpoint.weights
        read = features * np.float32(table.test_scales[table.last])
        return _softmax(read @ weights[f"{table.last}.weight"].T + weights[f"{table.last}.bias"])


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _softmax(logits: NDArray[Any]) -> Probabilities:
    """(B, classes) -> the same; the largest logit is subtracted so that none overflows."""
    powers: Probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
