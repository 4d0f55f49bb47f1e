"""The nearest images by the pixels' own distance, to set beside the nearest by fc7 (paper, section 6.1)."""

import numpy as np
from numpy.typing import NDArray

from index import Generation
from model.data.sources import Report
from model.preprocess import stored_image

__all__ = ["SIDE", "nearest_by_pixels", "pixels_of"]

SIDE = 32  # pixels of the squares that are compared: all of a CIFAR-10 image
BLOCK = 512  # indexed images in memory at a time


def pixels_of(thumbnail: bytes) -> NDArray[np.uint8]:
    """An encoded image -> its central square, (SIDE * SIDE * 3,). Raises BadImage."""
    return stored_image(thumbnail, SIDE).reshape(-1)


def nearest_by_pixels(
    generation: Generation, queries: NDArray[np.uint8], k: int, report: Report
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Queries (q, SIDE * SIDE * 3) -> Euclidean distances of pixels (q, k) and image ids (q, k), ties by image id.

    Every thumbnail of the collection is read once. Squared distances are whole numbers below 2^53, so exact in float64.
    """
    wide = queries.astype(np.float64)
    best = np.full((len(queries), 0), np.inf)
    ids = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(generation.ids), BLOCK):
        new = generation.ids[start : start + BLOCK]
        base = np.stack([pixels_of(generation.catalogue.image(int(one)).thumbnail) for one in new]).astype(np.float64)
        squared = (wide**2).sum(axis=1)[:, None] + (base**2).sum(axis=1) - 2 * wide @ base.T
        best = np.concatenate([best, squared], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(new, squared.shape)], axis=1)
        order = np.argsort(best, axis=1, kind="stable")[:, :k]  # equal ones stay in the order of their ids
        best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
        report("compare pixels", start + len(new), len(generation.ids))
    return np.sqrt(best), ids
