"""The only file where the network meets the index: it classifies an image and finds its nearest indexed images.

All methods block. Any thread may call `prepare`, `slow`, `indexed`, `labels`, `images`, `map`, `any_indexed` and
`verify`; the others are for one thread at a time (workers.py). S is the side of a stored image, F the length of an
embedding (4096).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from index import Answers, Generation, Image, Labels, Search, canaries_of
from model import Embedder
from service.map import NoMap, packed

__all__ = ["SHORT", "Engine", "Found", "Inference", "Nearest", "Predicted", "Recall"]

SHORT = 12  # hexadecimal digits of a shortened fingerprint


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
        self.embedder, self._generation, self._search = embedder, generation, search
        self._max_pixels = max_pixels
        self.classes = embedder.classes
        self.checkpoint = embedder.checkpoint
        self.side = embedder.recipe.stored  # S
        self.device, self.network_engine, self.search_device = embedder.device, embedder.engine, search.device
        self.manifest = generation.manifest
        self.model = self.manifest.inputs["weights"][:SHORT]
        self.segments, self.removed = len(generation.segments), len(generation.removed)
        self.canaries = canaries_of(generation)  # none in a generation that was built before there were any
        self.recall = _recall(self.manifest.quality)  # of each mode, certified and measured; empty where none is known

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """Decode an image: bytes -> (S, S, 3) uint8. Raises BadImage, TooManyPixels."""
        return self.embedder.prepare(data, max_pixels=self._max_pixels)

    def infer(self, image: NDArray[np.uint8]) -> Inference:
        """Stored image (S, S, 3) -> probabilities and features, from the central crop."""
        probabilities, features = self.embedder(image[None])
        return Inference(probabilities[0], features[0])

    def ten_views(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored image (S, S, 3) -> probabilities (classes,), the mean over ten views."""
        probabilities = self.embedder.ten_views(image[None])
        return probabilities.reshape(-1)

    def infer_stored(self, image_id: int) -> Inference:
        """Return an indexed image's stored features, and the probabilities from them. Raises NoSuchImage.

        Only the network's last layer is computed.
        """
        features = self._generation.rows([image_id])
        return Inference(self.embedder.probabilities_of(features)[0], features[0])

    def infer_features(self, features: NDArray[np.float32]) -> Inference:
        """Return features (F,) with the probabilities from them."""
        return Inference(self.embedder.probabilities_of(features[None])[0], features)

    def predicted(self, ids: NDArray[np.int64]) -> list[Predicted]:
        """What the network sees in the indexed images ids (n,), from their stored features. Raises NoSuchImage."""
        probabilities = self.embedder.probabilities_of(self._generation.rows(ids))  # one matrix product for all of them
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

    def warm_up(self, *, network: bool) -> None:
        """Answer one question, so that the first request is no slower.

        network: whether through the network, which must then be nobody else's.
        """
        if network:
            side = self.checkpoint.recipe.stored
            self.infer(np.zeros((side, side, 3), np.uint8))
        self.quick(self._generation.rows(self._generation.ids[:1])[0], 1)

    def verify(self, pause: Callable[[], None] = lambda: None) -> None:
        """Read all files of the index. `pause` is called often, and may raise. Raises DamagedPart."""
        self._generation.verify(pause)

    def close(self) -> None:
        """Close the generation's files."""
        self._generation.close()


def _recall(quality: Mapping[str, Any]) -> dict[str, Recall]:
    """Return the recall of each mode in a manifest's `quality`."""
    modes = {mode: quality[mode]["recall"] for mode in ("certified", "measured") if mode in quality}
    return {mode: Recall(**figure, k=quality["k"]) for mode, figure in modes.items()}
