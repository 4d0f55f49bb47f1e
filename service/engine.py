"""The only file where the network meets the index: it classifies an image and finds its nearest indexed images.

All methods block. Any thread may call `prepare`, `slow`, `check_id`, `indexed`, `labels`, `images`, `map`,
`any_indexed` and `verify`; the others are for one thread at a time (batcher.py). S is the side of a stored image, F the
length of an embedding (4096).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from index import Answers, Generation, Image, Labels, NoSuchImage, Search, canaries_of
from model import Embedder
from service.map import NoMap, packed

__all__ = ["SHORT", "Asked", "Engine", "Find", "Found", "Inference", "Nearest", "Predicted", "Recall"]

SHORT = 12  # hexadecimal digits of a shortened fingerprint

# A stored image (S, S, 3) uint8, the features of one (F,) float32, or the id of an indexed image.
Asked = NDArray[np.uint8] | NDArray[np.float32] | int


@dataclass(frozen=True)
class Inference:
    """The network's output for one image."""

    probabilities: NDArray[np.float32]  # (classes,)
    features: NDArray[np.float32]  # (F,)


@dataclass(frozen=True)
class Find:
    """Which indexed images to find: the k nearest, of all or of a label."""

    k: int
    measured: bool = False  # without a proof, where the build has measured what such answers are worth
    label: str | None = None  # only images of it are found, and the answer is proven


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
        return self.infer_all([image])[0]

    def infer_all(self, asked: Sequence[Asked]) -> list[Inference]:
        """Return what the network says of each: one pass for all stored images, its last layer alone for the others.

        Raises NoSuchImage.
        """
        found: dict[int, Inference] = {}
        images = {place: one for place, one in enumerate(asked) if not isinstance(one, int) and one.ndim > 1}
        if images:
            probabilities, features = self.embedder(np.stack([*images.values()]).astype(np.uint8, copy=False))
            found |= dict(zip(images, map(Inference, probabilities, features), strict=True))
        others = {place: one for place, one in enumerate(asked) if place not in images}
        if others:
            features = np.stack(
                [self._generation.rows([one])[0] if isinstance(one, int) else one for one in others.values()]
            )
            found |= dict(zip(others, map(Inference, self.embedder.probabilities_of(features), features), strict=True))
        return [found[place] for place in range(len(asked))]

    def ten_views(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored image (S, S, 3) -> probabilities (classes,), the mean over ten views."""
        probabilities = self.embedder.ten_views(image[None])
        return probabilities.reshape(-1)

    def predicted(self, ids: NDArray[np.int64]) -> list[Predicted]:
        """What the network sees in the indexed images ids (n,), from their stored features. Raises NoSuchImage."""
        probabilities = self.embedder.probabilities_of(self._generation.rows(ids))  # one matrix product for all of them
        best = probabilities.argmax(axis=1)
        return [Predicted(int(n), float(row[n])) for n, row in zip(best, probabilities, strict=True)]

    def find_all(self, features: Sequence[NDArray[np.float32]], find: Find) -> tuple[list[Nearest | None], float]:
        """Find the indexed images nearest to each features (F,), all if there are fewer; None where only `slow` can.

        It is one search. Returned with it: the seconds of it that went to exact distances. Raises NoSuchLabel.
        """
        among = None if find.label is None else self.images(find.label)
        measured = find.measured and "measured" in self.recall
        answers = self._search.quick(np.stack(features), find.k, measured=measured, among=among)
        return self.described(answers), answers.rerank

    def slow(self, features: NDArray[np.float32], find: Find) -> Answers:
        """Find the indexed images nearest to features (F,), of a label or of all, by reading all of those.

        It can take seconds. Raises NoSuchLabel.
        """
        return self._search.slow(features[None], find.k, among=None if find.label is None else self.images(find.label))

    def described(self, answers: Answers) -> list[Nearest | None]:
        """Look up the images of the answers, with one matrix product for all; None for a query that is not settled."""
        rows = np.flatnonzero(answers.settled).tolist()
        ids = answers.ids[rows]
        predicted = iter(self.predicted(ids.reshape(-1)))
        nearest: list[Nearest | None] = [None] * len(answers.settled)
        for row, of_row in zip(rows, ids.tolist(), strict=True):
            distances = answers.distances[row].tolist()
            found = [
                Found(self.indexed(image_id), next(predicted), distance)
                for image_id, distance in zip(of_row, distances, strict=True)
            ]
            nearest[row] = Nearest(found, answers.exactness[row])
        return nearest

    def check_id(self, image_id: int) -> None:
        """Raises NoSuchImage."""
        ids = self._generation.ids
        if ids[min(int(np.searchsorted(ids, image_id)), len(ids) - 1)] != image_id:
            raise NoSuchImage(image_id)

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

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Answer questions, so that the first requests are no slower.

        sizes: of batches, whose kernels are made now; none where the network is in use by others.
        """
        blank = np.zeros((self.side, self.side, 3), np.uint8)
        for size in sizes:
            self.infer_all([blank] * size)
        if sizes:
            self.ten_views(blank)
        self.find_all([self._generation.rows(self._generation.ids[:1])[0]], Find(1))

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
