"""The parts of an answer, each alone on the machine: what the service could reach if they cost nothing beside it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import cpu_count
from pathlib import Path

import numpy as np

from index import Bundle, open_search
from model import Embedder, load_checkpoint
from model.allocator import keep_freed_memory
from scripts.benchmarks.timing import Timing, Work, in_turn

__all__ = ["Alone", "alone", "bound"]

BATCHES = (16, 32, 64, 128)  # images in a pass; the best counts
SINGLES = 32  # images, one by one, in a round
K = 6


@dataclass(frozen=True)
class Alone:
    """One part's figures."""

    part: str
    one_ms: float  # a single image, in the median round
    per_s: float  # images together, in the median round
    together: int  # how many that were


def alone(bundle: Path, photographs: Sequence[bytes], rounds: int) -> list[Alone]:
    """Time decoding (on every core), the network and the search, in turn. For a process of its own."""
    keep_freed_memory()  # as the service does
    generation = Bundle(bundle).current()
    embedder, search = Embedder(load_checkpoint(generation.checkpoint)), open_search(generation)
    images = np.stack([embedder.prepare(data) for data in photographs])
    features = embedder(images)[1]
    most = min(BATCHES[-1], embedder.batch)
    many = np.resize(images, (most, *images.shape[1:]))

    def each(job: Callable[[int], object]) -> int:
        for row in range(SINGLES):
            job(row % len(images))
        return SINGLES

    def passes(batch: int) -> int:
        for start in range(0, most, batch):
            embedder(many[start : start + batch])
        return most

    def searched(at_once: int) -> int:
        search.quick(np.resize(features, (at_once, features.shape[1])), K)
        return at_once

    with ThreadPoolExecutor(cpu_count()) as cores:

        def decoded() -> int:
            return len(list(cores.map(embedder.prepare, photographs)))

        batches = [batch for batch in BATCHES if batch <= most]
        works: dict[str, Work] = {
            "decode": partial(each, lambda row: embedder.prepare(photographs[row])),
            "decode, together": decoded,
            "forward": partial(each, lambda row: embedder(images[row : row + 1])),
            **{f"forward, {batch} together": partial(passes, batch) for batch in batches},
            "search": partial(each, lambda row: search.quick(features[row : row + 1], K)),
            "search, together": partial(searched, 64),
        }
        timings = in_turn(works, rounds)
    generation.close()
    batch = max(batches, key=lambda batch: timings[f"forward, {batch} together"].rate)
    return [
        _of("decode", timings["decode"], timings["decode, together"], len(photographs)),
        _of("forward", timings["forward"], timings[f"forward, {batch} together"], batch),
        _of("search", timings["search"], timings["search, together"], 64),
    ]


def bound(parts: Sequence[Alone]) -> float:
    """Images a second when the parts follow each other and nothing else takes time."""
    return 1 / sum(1 / part.per_s for part in parts)


def _of(part: str, single: Timing, many: Timing, together: int) -> Alone:
    return Alone(part, 1e3 / single.rate, many.rate, together)
