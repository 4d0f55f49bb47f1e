"""The only file where the network meets the index: it classifies an image and finds its nearest indexed images.

All methods block. Any thread may call `prepare`, `indexed` and `any_indexed`; the others are for one thread at a time
(workers.py). S is the side of a stored image, F the length of an embedding (4096).
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import Bundle, FlatIndex, Generation, Image, Searcher, gpus_of
from model import Checkpoint, Embedder, load_checkpoint
from service.settings import Settings

__all__ = ["SHORT", "Engine", "Found", "Inference", "Mismatch", "Predicted", "load_engine"]

SHORT = 12  # hexadecimal digits of a shortened fingerprint


class Mismatch(ValueError):
    """The checkpoint did not make the index; the message says which part differs."""


@dataclass(frozen=True)
class Inference:
    """The network's output for one image."""

    probabilities: NDArray[np.float32]  # (classes,)
    features: NDArray[np.float32]  # (F,)


@dataclass(frozen=True)
class Predicted:
    """The most probable class of an indexed image; of several, the one with the lowest id."""

    class_id: int
    probability: float


@dataclass(frozen=True)
class Found:
    """One of the nearest indexed images."""

    image: Image
    predicted: Predicted
    distance: float


class Engine:
    """A network, and an index of the features that it computed for a collection."""

    def __init__(self, embedder: Embedder, generation: Generation, searcher: Searcher, *, max_pixels: int) -> None:
        self._embedder, self._generation, self._searcher = embedder, generation, searcher
        self._max_pixels = max_pixels
        self.classes = embedder.classes
        self.checkpoint = embedder.checkpoint
        self.device, self.network_engine, self.search_device = embedder.device, embedder.engine, searcher.device
        self.manifest = generation.manifest
        self.model = self.manifest.inputs["weights"][:SHORT]

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """Decode an image: bytes -> (S, S, 3) uint8. Raises BadImage, TooManyPixels."""
        return self._embedder.prepare(data, max_pixels=self._max_pixels)

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Stored image (S, S, 3) -> probabilities and features, from the central crop."""
        probabilities, features = self._embedder(image[None])
        return Inference(probabilities[0], features[0])

    def ten_views(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored image (S, S, 3) -> probabilities (classes,), the mean over ten views."""
        probabilities = self._embedder.ten_views(image[None])
        return probabilities.reshape(-1)

    def infer_stored(self, image_id: int) -> Inference:
        """Return an indexed image's stored features, and the probabilities from them. Raises NoSuchImage.

        Only the network's last layer is computed.
        """
        features = self._generation.rows([image_id])
        return Inference(self._embedder.probabilities_of(features)[0], features[0])

    def predicted(self, ids: NDArray[np.int64]) -> list[Predicted]:
        """What the network sees in the indexed images ids (n,), from their stored features. Raises NoSuchImage."""
        probabilities = self._embedder.probabilities_of(
            self._generation.rows(ids)
        )  # one matrix product for all of them
        best = probabilities.argmax(axis=1)
        return [Predicted(int(n), float(row[n])) for n, row in zip(best, probabilities, strict=True)]

    def nearest(self, features: NDArray[np.float32], k: int) -> list[Found]:
        """Find the k indexed images nearest to features (F,), all if there are fewer: ascending, ties by image id."""
        distances, ids = self._searcher.search(features[None], k)
        found = zip(ids[0].tolist(), self.predicted(ids[0]), distances[0].tolist(), strict=True)
        return [Found(self.indexed(image_id), predicted, distance) for image_id, predicted, distance in found]

    def indexed(self, image_id: int) -> Image:
        """Return an indexed image. Raises NoSuchImage."""
        return self._generation.catalogue.image(image_id)

    def any_indexed(self, rng: np.random.Generator) -> Image:
        """Draw an indexed image, all equally likely."""
        return self.indexed(int(rng.choice(self._generation.ids)))

    def close(self) -> None:
        """Close the catalogue."""
        self._generation.close()


def load_engine(settings: Settings) -> Engine:
    """Open the bundle's current generation, verify every file of it, and answer one question to warm it up.

    Raises BadBundle, BadCheckpoint, NoSuchDevice, NoSuchEngine, GpuFailed, TooLarge for features that float16 cannot
    search, and Mismatch when the checkpoint did not make the index.
    """
    generation = Bundle(settings.bundle).current(verify=True)
    try:
        checkpoint = load_checkpoint(generation.checkpoint)
        _check_pair(checkpoint, generation)
        embedder = Embedder(checkpoint, settings.device, settings.engine)
        gpus = gpus_of(embedder.device)
        if embedder.device != "cpu" and not gpus:
            logging.getLogger(__name__).warning("FAISS cannot use %s here: the CPU searches", embedder.device)
        searcher = FlatIndex(generation.all_rows(), generation.ids, gpus=gpus, float16=settings.float16)
        engine = Engine(embedder, generation, searcher, max_pixels=settings.max_pixels)
        side = checkpoint.recipe.stored
        blank = np.zeros((side, side, 3), np.uint8)
        engine.nearest(engine.infer(blank).features, 1)  # so that the first request is no slower
    except BaseException:
        generation.close()
        raise
    return engine


def _check_pair(checkpoint: Checkpoint, generation: Generation) -> None:
    manifest, of_network = generation.manifest, checkpoint.fingerprints()
    differ = [
        f"{part} {manifest.inputs.get(part, 'unknown')[:SHORT]} in the index, {fingerprint[:SHORT]} in the checkpoint"
        for part, fingerprint in of_network.items()
        if manifest.inputs.get(part) != fingerprint
    ]
    if manifest.width != checkpoint.table.width:
        differ.append(
            f"embeddings of {manifest.width} numbers in the index, {checkpoint.table.width} in the checkpoint"
        )
    if differ:
        raise Mismatch(
            f"{generation.path}: the index was not made by the checkpoint beside it: {'; '.join(differ)}; "
            "build the index again with scripts/build_index.py"
        )
    if not manifest.rows:
        raise Mismatch(f"{generation.path}: the index holds no image")
