"""Canaries: a few encoded originals that a generation keeps, so that whoever serves it can check itself.

canaries/<image id>   an image's file as it was, or a PNG of what a packed dataset stores

Decoded and taken through the network again, each should give the features that are indexed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

import files
from index.generation import Generation
from index.manifest import BadBundle

__all__ = ["COUNT", "FOLDER", "MOST_BYTES", "Canary", "canaries_of", "is_of_removed", "keep_canaries"]

FOLDER = "canaries"
COUNT = 16
TRIED = 4  # images for each; the smallest is kept
MOST_BYTES = 1 << 22  # of one

Original = Callable[
    [str], tuple[bytes, str] | None
]  # name -> encoded image and content; None where it is not to be had


@dataclass(frozen=True)
class Canary:
    """An indexed image as it was indexed."""

    image_id: int
    data: bytes  # the encoded image
    features: NDArray[np.float32]  # (d,)


def canaries_of(generation: Generation) -> list[Canary]:
    """Read a generation's canaries, by image id; none are in one that was built before there were any.

    Raises BadBundle for a file that cannot be read, NoSuchImage for that of an image which is not in the collection.
    """
    ids = sorted(_ids(generation))
    try:
        data = [(generation.path / FOLDER / str(image_id)).read_bytes() for image_id in ids]
    except OSError as error:
        raise BadBundle(f"{error.filename}: cannot be read: {error.strerror}") from error
    rows = generation.rows(ids)
    return [Canary(*each) for each in zip(ids, data, rows, strict=True)]


def keep_canaries(generation: Generation, source: str, original: Original) -> None:
    """Write into a generation that is being built as many more canaries as it lacks, of a source's images.

    They are spread over the source's classes and ids; equal collections give equal ones. An image whose original is
    not what was indexed, or larger than MOST_BYTES, is left out. Raises OSError.
    """
    there = set(_ids(generation))
    if len(there) >= COUNT:
        return
    names: dict[int, tuple[str, str]] = {}  # of each image, its class and a name
    for named in generation.catalogue.names(source):
        if named.image_id is not None and named.image_id not in there:
            names.setdefault(named.image_id, (named.label or "", named.name))
    ordered = sorted(names, key=lambda image_id: (names[image_id][0], image_id))
    for part in np.array_split(np.array(ordered, np.int64), COUNT - len(there)):
        tried = part[np.unique(np.linspace(0, len(part) - 1, TRIED).astype(int))].tolist() if len(part) else []
        found = [(image_id, original(names[image_id][1])) for image_id in tried]
        whole = [
            (len(data), image_id, data)
            for image_id, (data, content) in ((i, got) for i, got in found if got is not None)
            if len(data) <= MOST_BYTES and content == generation.catalogue.image(image_id).content
        ]
        if whole:
            _, image_id, data = min(whole)
            files.make_folder(generation.path / FOLDER)
            files.replace(generation.path / FOLDER / str(image_id), data)


def is_of_removed(part: str, removed: NDArray[np.int64]) -> bool:
    """Return whether a part of a generation, by its path there, is the canary of an image that was removed."""
    path = PurePath(part)
    return path.parent.name == FOLDER and path.name.isdecimal() and int(path.name) in removed


def _ids(generation: Generation) -> Iterator[int]:
    for part in map(PurePath, generation.manifest.parts):
        if part.parent.name == FOLDER and part.name.isdecimal():
            yield int(part.name)
