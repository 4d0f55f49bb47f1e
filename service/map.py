"""The map as the page gets it: positions, image ids and labels of all images, as few bytes as they need."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNLABELLED", "NoMap", "packed"]

UNLABELLED = 2**16 - 1  # the label of an image that has none
LARGEST = 2**16 - 1  # of a coordinate


class NoMap(LookupError):
    """The index was built without a map."""

    def __init__(self) -> None:
        super().__init__(
            "this index was built without a map; scripts/build_index.py makes one: run it again as it was, "
            "with --map umap or --map pca"
        )


def packed(
    kind: str,
    generation: int,
    ids: NDArray[np.int64],
    positions: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> bytes:
    """Ids (n,) ascending, positions (n, 2), class ids (n,) or -1 -> ten bytes an image behind a head.

    The head: its length in bytes (uint32, a multiple of 4 with these 4) and JSON. Then, little-endian, n uint32, each
    id's distance from the id before; n pairs of uint16, x and y, on one scale; n uint16, places in the head's `labels`.
    """
    low, high = positions.min(0), positions.max(0)
    scale = LARGEST / max(float((high - low).max()), 1e-9)
    middle = (LARGEST - scale * (high - low)) / 2  # the shorter side lies in the middle
    points = np.rint(scale * (positions - low) + middle)
    named, places = np.unique(labels, return_inverse=True)
    head = {
        "generation": generation,
        "kind": kind,
        "images": len(ids),
        "first_id": int(ids[0]),
        "labels": [classes[label] for label in named if label >= 0][:UNLABELLED],
    }
    places = places - int(named[0] < 0)  # those without a label are the first of `named`
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 4)
    parts = (
        np.diff(ids, prepend=ids[0]).astype("<u4"),
        points.astype("<u2"),
        np.where((places < 0) | (places >= UNLABELLED), UNLABELLED, places).astype("<u2"),
    )
    return b"".join([len(text).to_bytes(4, "little"), text, *(part.tobytes() for part in parts)])
