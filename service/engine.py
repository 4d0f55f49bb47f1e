"""The only file where the network meets the index: it classifies an image and finds its nearest indexed images.

All methods block. Any thread may call `prepare`, `slow`, `indexed`, `labels`, `images`, `map`, `any_indexed` and
`verify`; the others are for one thread at a time (workers.py). S is the side of a stored image, F the length of an
embedding (4096).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from index import Answers, Bundle, Generation, Image, Labels, Search, gpus_of, open_search
from model import Checkpoint, Embedder, load_checkpoint
from service.map import NoMap, packed
from service.settings import Settings

__all__ = ["SHORT", "Engine", "Found", "Inference", "Mismatch", "Nearest", "Predicted", "Recall", "load_engine"]

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


@dataclass(frozen=True)
class Nearest:
    """The nearest indexed images, nearest first, ties by image id."""

    found: list[Found]
    exactness: Literal["certified", "exact", "measured"]


@dataclass(frozen=True)
class Recall:
    """The share of the true k nearest that an answer holds, with a 95 % interval, as the build measured it."""

    value: float
    low: float
    high: float
    k: int


class Engine:
    """A network, and an index of the features that it computed for a collection."""

    def __init__(self, embedder: Embedder, generation: Generation, search: Search, *, max_pixels: int) -> None:
        self._embedder, self._generation, self._search = embedder, generation, search
        self._max_pixels = max_pixels
        self.classes = embedder.classes
        self.checkpoint = embedder.checkpoint
        self.device, self.network_engine, self.search_device = embedder.device, embedder.engine, search.device
        self.manifest = generation.manifest
        self.model = self.manifest.inputs["weights"][:SHORT]
        self.segments, self.removed = len(generation.segments), len(generation.removed)
        self.recall = _recall(self.manifest.quality)  # of each mode, certified and measured; empty where none is known

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

    def infer_features(self, features: NDArray[np.float32]) -> Inference:
        """Return features (F,) with the probabilities from them."""
        return Inference(self._embedder.probabilities_of(features[None])[0], features)

    def predicted(self, ids: NDArray[np.int64]) -> list[Predicted]:
        """What the network sees in the indexed images ids (n,), from their stored features. Raises NoSuchImage."""
        probabilities = self._embedder.probabilities_of(
            self._generation.rows(ids)
        )  # one matrix product for all of them
        best = probabilities.argmax(axis=1)
        return [Predicted(int(n), float(row[n])) for n, row in zip(best, probabilities, strict=True)]

    def quick(
        self, features: NDArray[np.float32], k: int, *, measured: bool = False, label: str | None = None
    ) -> Nearest | None:
        """Find the k indexed images nearest to features (F,), all if there are fewer; None where only `slow` can.

        measured: without a proof, where the build has measured what such answers are worth. label: only images of it
        are found, and the answer is proven. Raises NoSuchLabel.
        """
        among = None if label is None else self.images(label)
        measured = measured and "measured" in self.recall
        answers = self._search.quick(features[None], k, measured=measured, among=among)
        return self.described(answers) if answers.settled[0] else None

    def slow(self, features: NDArray[np.float32], k: int, *, label: str | None = None) -> Answers:
        """Find the k indexed images nearest to features (F,), of a label or of all, by reading all of those.

        It can take seconds. Raises NoSuchLabel.
        """
        return self._search.slow(features[None], k, among=None if label is None else self.images(label))

    def described(self, answers: Answers) -> Nearest:
        """Look up the images of the answer to one query."""
        ids, distances = answers.ids[0], answers.distances[0].tolist()
        found = zip(ids.tolist(), self.predicted(ids), distances, strict=True)
        images = [Found(self.indexed(image_id), predicted, distance) for image_id, predicted, distance in found]
        return Nearest(images, answers.exactness[0])

    def indexed(self, image_id: int) -> Image:
        """Return an indexed image. Raises NoSuchImage."""
        return self._generation.catalogue.image(image_id)

    @property
    def labels(self) -> Labels:
        """The labels of the indexed images. The first call reads them, which takes seconds for a large collection."""
        return self._generation.labels

    def images(self, label: str | None = None) -> NDArray[np.int64]:
        """Return the ids of the indexed images, or of those with this label, ascending. Raises NoSuchLabel."""
        return self._generation.ids if label is None else self.labels.images(label)

    @cached_property
    def map(self) -> bytes:
        """The map, as `packed` makes it; the first call packs it. Raises NoMap, BadBundle."""
        generation = self._generation
        positions = generation.positions()
        if positions is None:
            raise NoMap
        of_images, classes = generation.catalogue.labels(), self.manifest.classes
        return packed(generation.layout.map, generation.number, generation.ids, positions, of_images, classes)

    def any_indexed(self, rng: np.random.Generator) -> Image:
        """Draw an indexed image, all equally likely."""
        return self.indexed(int(rng.choice(self._generation.ids)))

    def verify(self, pause: Callable[[], None] = lambda: None) -> None:
        """Read all files of the index. `pause` is called often, and may raise. Raises DamagedPart."""
        self._generation.verify(pause)

    def close(self) -> None:
        """Close the generation's files."""
        self._generation.close()


def load_engine(settings: Settings) -> Engine:
    """Open the bundle's current generation, and answer one question to warm it up.

    Of the collection only the image ids are read, unless settings.verify asks for all. Raises BadBundle, BadCheckpoint,
    NoSuchDevice, NoSuchEngine, GpuFailed, TooLarge for features that float16 cannot search, and Mismatch when the
    checkpoint did not make the index.
    """
    generation = Bundle(settings.bundle).current()
    try:
        if settings.verify:
            generation.verify()
        checkpoint = load_checkpoint(generation.checkpoint)
        _check_pair(checkpoint, generation)
        embedder = Embedder(checkpoint, settings.device, settings.engine)
        gpus = gpus_of(embedder.device)
        if embedder.device != "cpu" and not gpus:
            logging.getLogger(__name__).warning("FAISS cannot use %s here: the CPU searches", embedder.device)
        search = open_search(generation, gpus=gpus, float16=settings.float16)
        engine = Engine(embedder, generation, search, max_pixels=settings.max_pixels)
        side = checkpoint.recipe.stored
        blank = np.zeros((side, side, 3), np.uint8)
        engine.quick(engine.infer(blank).features, 1)  # so that the first request is no slower
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


def _recall(quality: Mapping[str, Any]) -> dict[str, Recall]:
    """Return the recall of each mode in a manifest's `quality`."""
    modes = {mode: quality[mode]["recall"] for mode in ("certified", "measured") if mode in quality}
    return {mode: Recall(**figure, k=quality["k"]) for mode, figure in modes.items()}
