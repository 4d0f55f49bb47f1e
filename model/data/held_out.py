"""Which images an index does not hold, so that they can measure it as queries.

A dataset has a split for that, beside its training images; of any other collection a few images are kept out. A hash
of an image's name decides which, so that every machine chooses alike, whatever the order.
"""

import hashlib
import heapq
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from model.data.folders import check_fit, encoded_source, part
from model.data.packed import BadDataset, PackedSet
from model.data.rows import packed_source
from model.data.sources import Report, Source
from model.data.splits import VALIDATION

__all__ = ["SHARE", "chosen", "held_out_split", "kept_out"]

SHARE = 100  # at most one image in so many is kept out of a collection


def held_out_split(path: Path, size: int, report: Report = lambda *_: None) -> Source | None:
    """Return the images that a dataset holds out: its split or subfolder validation, val or test, beside train.

    The classes are the split's own. None where there is no such split, or no image in it. Raises BadDataset.
    """
    if (path / "meta.json").is_file():
        packed = PackedSet.open(path)
        check_fit(packed, size)
        names = [name for name in VALIDATION if name in packed.splits and len(packed.split(name))]
        return packed_source(packed, names[0]) if names else None
    if part(path, "train") != path:
        for folder in (path / name for name in VALIDATION if (path / name).is_dir()):
            with suppress(BadDataset):  # no images: an index of the training images is still wanted
                return encoded_source(folder, size, report=report)
    return None


def chosen(names: Iterable[str], wanted: int) -> list[int]:
    """Return the positions, ascending, of the `wanted` names whose SHA-256 is smallest."""
    drawn = ((hashlib.sha256(os.fsencode(name)).digest(), position) for position, name in enumerate(names))
    return sorted(position for _, position in heapq.nsmallest(wanted, drawn))


def kept_out(source: Source, wanted: int, earlier: Collection[str] = ()) -> list[int]:
    """Return the positions, ascending, of the images that are kept out of a collection without a held-out split.

    They are `wanted` images, and at most one in SHARE. Where images were kept out earlier, those names are and no
    others, so that a collection which grows keeps its queries.
    """
    if earlier:
        return [position for position, (name, _, _) in enumerate(source.entries()) if name in earlier]
    return chosen((name for name, _, _ in source.entries()), min(wanted, len(source) // SHARE))
