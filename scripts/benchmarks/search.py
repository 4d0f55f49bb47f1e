"""Exact search over features of noise, on the CPU and on a GPU where FAISS sees one. Needs no bundle and no dataset."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import Search as Index
from index import exact, flat_search, gpus_of
from scripts.benchmarks.settings import Search, check_positive
from scripts.benchmarks.timing import Work, in_turn, table


@dataclass(frozen=True)
class Searched:
    """One index's figures."""

    index: str
    batch: int  # queries searched together
    queries_per_s: float  # in the median round
    fastest_ms: float
    slowest_ms: float
    equal: int  # of the checked queries, those whose neighbours equal brute force in float64
    checked: int


def measure(config: Search) -> list[Searched]:
    """Time every index at every batch size. Raises Refused."""
    check_positive(config, "rows", "width", "batch", "k", "checked", "rounds")
    features, ids = noise(config.rows, config.width, seed=0), np.arange(config.rows, dtype=np.int64)
    queries = noise(max(*config.batch, config.checked), config.width, seed=1)
    _, expected = exact.nearest(features, ids, queries[: config.checked], config.k)
    searched = []
    for name, (gpus, float16) in forms().items():
        index = flat_search(features, ids, gpus=gpus, float16=float16)
        found = index.search(queries[: config.checked], config.k).ids
        equal = int((found == expected).all(axis=1).sum())
        for batch in config.batch:
            timing = in_turn({name: work(index, queries[:batch], config.k)}, config.rounds)[name]
            fastest, _, slowest = timing.milliseconds
            searched.append(Searched(name, batch, timing.rate, fastest, slowest, equal, len(expected)))
    return searched


def shown(config: Search, searched: list[Searched]) -> str:
    """Return a table with one line for each index and batch size."""
    rows = [
        [
            s.index,
            f"{s.batch:,}",
            f"{s.queries_per_s:,.1f}",
            f"{s.fastest_ms:.1f}-{s.slowest_ms:.1f}",
            f"{s.equal} of {s.checked}",
        ]
        for s in searched
    ]
    head = [f"{config.rows:,} x {config.width:,}", "batch", "queries/s (median)", "ms", "as brute force"]
    return table(head, rows)


def noise(count: int, width: int, seed: int) -> NDArray[np.float32]:
    """(count, width) float32, half of it 0 as after ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32), 0)


def forms() -> dict[str, tuple[tuple[int, ...], bool]]:
    """Return the forms of the index, by name: the numbers of their GPUs (none: the CPU), and whether in float16."""
    gpu = gpus_of("cuda:0")
    on_gpu = {"GPU, float32": (gpu, False), "GPU, float16": (gpu, True)} if gpu else {}
    return {"CPU, float32": ((), False), **on_gpu}


def work(index: Index, queries: NDArray[np.float32], k: int) -> Work:
    """Return one round: a single search for all queries."""

    def search() -> int:
        return len(index.search(queries, k).ids)

    return search
