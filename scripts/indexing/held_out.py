"""Hold images out of an index, and measure each of its generations with them before it is published."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from index import BadBundle, Bundle, Generation
from index.assembly import Measure
from index.quality import measure_again
from index.queries import Queries
from model import Embedder, Source
from model.data.held_out import chosen, held_out_split, kept_out

__all__ = ["HeldOut", "hold_out", "measuring"]

BLOCK = 256  # images that are embedded together

Renamed = Callable[[tuple[str, ...]], tuple[str, ...]]  # names of classes as the index has them


@dataclass(frozen=True)
class HeldOut:
    """A collection, divided."""

    indexed: Source
    queries: Source | None  # None: nothing is held out of this one, and the index keeps the queries that it has
    classes: tuple[str, ...]  # names of the queries' classes, as the index has them
    source: str | None  # the key of the collection that the queries were kept out of; None: they are another split's


def hold_out(
    images: Path, source: Source, key: str, wanted: int, bundle: Bundle, renamed: Renamed = lambda names: names
) -> HeldOut:
    """Choose the queries of a collection that is to be indexed: `wanted` images, 0 for none.

    images: the path that was opened as `source`, whose key in the bundle is `key`. They are a held-out split's images
    where the dataset has one, else of the source itself; see model.data.held_out. A source that is added to an index
    which has its queries already is indexed whole. Queries that are indexed after all, for `wanted` is 0, are dropped.
    """
    earlier = earlier_queries(bundle)
    if not wanted:
        return HeldOut(source, source.subset([]) if earlier and earlier.source == key else None, (), key)
    if (split := held_out_split(images, source.size)) is not None:
        positions = chosen((name for name, _, _ in split.entries()), wanted)
        return HeldOut(source, split.subset(positions), renamed(split.classes), None)
    if earlier is not None and earlier.source != key:
        return HeldOut(source, None, (), None)
    out = kept_out(source, wanted, earlier.names) if earlier and earlier.names else readable(source, wanted)
    if not out:
        return HeldOut(source, None, (), None)
    rest = np.setdiff1d(np.arange(len(source)), out, assume_unique=True).tolist()
    return HeldOut(source.subset(rest), source.subset(out), source.classes, key)


def readable(source: Source, wanted: int) -> list[int]:
    """Return the positions of images to keep out; one that cannot be read stays in, where it is told as skipped."""
    out = kept_out(source, wanted)
    read = source.subset(out)
    return [
        out[item.image_id]
        for start in range(0, len(out), BLOCK)
        for item in read.read(start, start + BLOCK)
        if item.image is not None
    ]


def earlier_queries(bundle: Bundle) -> Queries | None:
    """Return the queries of the current generation; None where there is none that can be read."""
    with suppress(BadBundle):
        generation = bundle.current()
        try:
            return Queries.read(generation.path)
        finally:
            generation.close()
    return None


def measuring(held: HeldOut, embedder: Embedder) -> Measure:
    """Return what Building.publish calls: it embeds the queries, unless the generation has them, and measures."""

    def measure(generation: Generation) -> Mapping[str, Any]:
        if held.queries is not None:
            there = Queries.read(generation.path)
            if there is None or bool(there.names) != bool(len(held.queries)):
                embedded(held.queries, held, embedder).write(generation.path)
        return measure_again(generation)

    return measure


def embedded(source: Source, held: HeldOut, embedder: Embedder) -> Queries:
    """Embed those of the held-out images that can be read."""
    names, labels = list[str](), list[str | None]()
    features = [np.empty((0, embedder.width), np.float32)]
    for start in range(0, len(source), BLOCK):
        items = [item for item in source.read(start, start + BLOCK) if item.image is not None]
        if items:
            features.append(embedder(np.stack([item.image for item in items if item.image is not None]))[1])
        names += [item.name for item in items]
        labels += [held.classes[item.label] if item.label >= 0 else None for item in items]
    return Queries(np.concatenate(features), tuple(names), tuple(labels), held.source)
