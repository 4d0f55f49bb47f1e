"""What the answers of a generation are worth, measured with queries that it does not hold: the manifest's `quality`.

    k, queries, checked    neighbours of each query; queries; those of them that brute force answered, too
    certified, measured    of each mode: recall, the share of the true k nearest among the answers; ms, of one query
    agreement              share of the k nearest that have the query's label; null where no label is known
    bytes                  of the generation's files, by name, all segments together

The truth for `certified` is brute force in float64, for `measured` the certified answers, which are equal to it.
A figure is {"value", "low", "high"}, the last two a 95 % interval; see `share`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import exact
from index.canaries import FOLDER as CANARIES
from index.generation import Generation
from index.layout import open_search
from index.manifest import MANIFEST
from index.queries import Queries
from index.search import Search

__all__ = ["MOST", "Figure", "K", "agreement", "changed", "labels_of", "measure", "measure_again", "share"]

K = 6  # the paper's Figure 4 shows six
MOST = 1000  # queries that are measured
TIMED = 50  # of them, one at a time
CHECKED = 20  # of them, by brute force, and fewer where that would read more than
NUMBERS = 1 << 32  # numbers: seconds from memory
Z = 1.959964  # standard normal quantile of a two-sided 95 % interval

Figure = dict[str, float]


def measure(
    search: Search, generation: Generation, queries: NDArray[np.float32], query_labels: NDArray[np.int64]
) -> dict[str, Any]:
    """Measure both modes with queries (q, d), at most MOST of them, and their class ids (q,), -1 unknown.

    Returns {} without queries, or without rows.
    """
    queries, query_labels = queries[:MOST], query_labels[:MOST]
    if not len(queries) or not len(generation.ids):
        return {}
    checked = min(CHECKED, max(1, NUMBERS // (len(generation.ids) * queries.shape[1])), len(queries))
    truth = np.stack([_brute_force(generation, query) for query in queries[:checked]])
    certified = search.search(queries, K).ids
    measured = search.search(queries, K, measured=True).ids
    return {
        "k": truth.shape[1],
        "queries": len(queries),
        "checked": checked,
        "certified": {
            "recall": _recall(certified[:checked], truth),
            "ms": _milliseconds(lambda query: search.search(query, K), queries),
        },
        "measured": {
            "recall": _recall(measured, certified),
            "ms": _milliseconds(lambda query: search.search(query, K, measured=True), queries),
        },
        "agreement": agreement(labels_of(generation, certified), query_labels),
        "bytes": _bytes(generation.path),
    }


def measure_again(generation: Generation) -> dict[str, Any]:
    """Measure with the queries that the generation keeps: {} where it has none. Raises what open_search does."""
    queries = Queries.read(generation.path)
    if queries is None:
        return {}
    search = open_search(generation)
    return measure(search, generation, queries.features, queries.class_ids(generation.manifest.classes))


def share(shares: NDArray[np.float64], each: int) -> Figure:
    """Mean of the queries' shares (q,), each of `each` neighbours, with a 95 % Wilson interval.

    Neighbours of one query are alike, so they do not count as so many independent trials: the interval is that of the
    number of trials which would vary as the queries do, and where they do not vary, of q trials.
    """
    mean, spread = float(shares.mean()), float(shares.var(ddof=1)) / len(shares) if len(shares) > 1 else 0.0
    n = min(mean * (1 - mean) / spread, each * len(shares)) if spread else len(shares)
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return {"value": mean, "low": max(0.0, min(centre - reach, mean)), "high": min(1.0, max(centre + reach, mean))}


def agreement(neighbours: NDArray[np.int64], labels: NDArray[np.int64]) -> Figure | None:
    """Share of the queries' neighbours (q, k) that have their label (q,). -1 is unknown, and agrees with nothing.

    None where no query, or none of the neighbours, has a label.
    """
    known = labels >= 0
    if not known.any() or (neighbours[known] < 0).all():
        return None
    return share((neighbours[known] == labels[known, None]).mean(axis=1), neighbours.shape[1])


def labels_of(generation: Generation, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class ids of indexed images, -1 unknown; any shape of ids."""
    return generation.catalogue.labels()[np.searchsorted(generation.ids, ids)]


def changed(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Return the names of the recorded figures whose interval does not hold the value that was measured again."""
    return [
        name
        for name, figure in _figures(recorded)
        if not any(name == other and figure["low"] <= new["value"] <= figure["high"] for other, new in _figures(again))
    ]


def _figures(quality: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Figure]]:
    for name, value in quality.items():
        if isinstance(value, Mapping) and "low" in value:
            yield within + name, dict(value)
        elif isinstance(value, Mapping):
            yield from _figures(value, f"{within}{name} ")


def _brute_force(generation: Generation, query: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ids of the K nearest (min(K, n),), of exact.distances to every row."""
    distances = np.concatenate([exact.distances(segment.features, query) for segment in generation.segments])
    ids = np.concatenate([segment.ids for segment in generation.segments])
    alive = np.isin(ids, generation.ids)
    return ids[alive][exact.ordered(distances[alive], ids[alive], K)]


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> Figure:
    """found (q, k), truth (q, k): which of the true ids were found, in any order."""
    hits = (truth[:, :, None] == found[:, None, :]).any(axis=2)
    return share(hits.mean(axis=1), truth.shape[1])


def _milliseconds(answer: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> dict[str, float]:
    """Time of one query: each of the first TIMED ones alone, after one that is not counted."""
    taken = []
    for row in [0, *range(min(TIMED, len(queries)))]:
        begun = time.perf_counter()
        answer(queries[row : row + 1])
        taken.append(1e3 * (time.perf_counter() - begun))
    return {"median": float(np.median(taken[1:])), "fastest": min(taken[1:]), "slowest": max(taken[1:])}


def _bytes(folder: Path) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != MANIFEST:  # which will say it
            sizes[CANARIES if file.parent.name == CANARIES else file.name] += file.stat().st_size
    return dict(sizes)
