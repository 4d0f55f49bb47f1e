"""Run a trained network: images in, class probabilities and the 4096 features of the last hidden layer out.

The batch job, the service and the evaluation use the same `Embedder`; torch becomes NumPy here. B images, S pixels the
stored side, F the embedding's length (4096).
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import BadCheckpoint, Checkpoint
from model.device import choose_device
from model.precision import full_float32
from model.preprocess import MAX_PIXELS, network_input, stored_image, ten_views

__all__ = ["Embedder"]

BATCH = {"cpu": 64, "cuda": 1024}  # images in one pass of the network: they fill the device, not its memory


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
