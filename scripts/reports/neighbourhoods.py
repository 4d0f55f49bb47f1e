"""The nearest indexed images of each image that a report is about, found block by block with certified searches.

n images, K neighbours each: 296 bytes an image at K = 24, and the features of one block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import Generation, Search
from index.duplicates import NEIGHBOURS
from index.quality import labels_of
from model import Embedder, Source
from model.data.class_names import people_names
from model.data.sources import Report

__all__ = ["Neighbourhoods", "of_collection", "of_source"]

BLOCK = 256  # images that are embedded and searched for together


@dataclass(frozen=True)
class Neighbourhoods:
    """n images and the K indexed images nearest to each."""

    images: NDArray[np.int64]  # (n,): image ids, or positions in a source
    labels: NDArray[np.int64]  # (n,): class ids of the index, -1 unknown
    ids: NDArray[np.int64]  # (n, K): image ids, nearest first
    distances: NDArray[np.float32]  # (n, K), ascending
    label_of: NDArray[np.int64]  # (n, K): class ids of the neighbours, -1 unknown


def of_collection(generation: Generation, search: Search, most: int, report: Report) -> Neighbourhoods:
    """Search for indexed images: `most` of them, evenly chosen, or all. None is its own neighbour."""
    count = min(most, len(generation.ids))
    images = generation.ids[np.arange(count) * len(generation.ids) // max(count, 1)]
    k = min(NEIGHBOURS, len(generation.ids) - 1)

    def searched() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        for start in range(0, count, BLOCK):
            own = images[start : start + BLOCK]
            found = search.search(generation.rows(own), k + 1)
            # Itself goes last, and out; among many equal images it may not be there, and then the last one goes.
            others = np.argsort(found.ids == own[:, None], axis=1, kind="stable")[:, :k]
            yield np.take_along_axis(found.ids, others, axis=1), np.take_along_axis(found.distances, others, axis=1)
            report("search the collection", start + len(own), count)

    return _collected(generation, images, labels_of(generation, images), list(searched()), k)


def of_source(
    generation: Generation, search: Search, embedder: Embedder, source: Source, classes: Sequence[str], report: Report
) -> Neighbourhoods:
    """Embed the images of a source and search for them. Images that cannot be read are left out.

    classes: the source's, as the index names them.
    """
    numbers = {name: number for number, name in enumerate(people_names(generation.manifest.classes))}
    class_ids = np.array([*(numbers.get(name, -1) for name in classes), -1])  # [-1]: no label
    k = min(NEIGHBOURS, len(generation.ids))
    images, labels, found = list[int](), list[int](), list[tuple[NDArray[np.int64], NDArray[np.float64]]]()
    for start in range(0, len(source), BLOCK):
        items = [item for item in source.read(start, start + BLOCK) if item.image is not None]
        if items:
            features = embedder(np.stack([item.image for item in items if item.image is not None]))[1]
            answers = search.search(features, k)
            found.append((answers.ids, answers.distances))
        images += [item.image_id for item in items]
        labels += [int(class_ids[item.label]) for item in items]
        report("search for held-out images", min(start + BLOCK, len(source)), len(source))
    return _collected(generation, np.array(images, np.int64), np.array(labels, np.int64), found, k)


def _collected(
    generation: Generation,
    images: NDArray[np.int64],
    labels: NDArray[np.int64],
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
    k: int,
) -> Neighbourhoods:
    ids = np.concatenate([np.empty((0, k), np.int64), *(ids for ids, _ in found)])
    distances = np.concatenate([np.empty((0, k), np.float32), *(near.astype(np.float32) for _, near in found)])
    return Neighbourhoods(images, labels, ids, distances, labels_of(generation, ids))
