"""Reduced scan: a few numbers of each row propose candidates, more of them prove what can be left out.

Both are leading principal components (projection.py). The proof's numbers also hold the length of what the components
leave, so that their distance never exceeds the true one; proposals are better without it. Rows are divided into shards,
which several threads can search at once.

Memory for n rows: 4 n bytes for each number of a row, in mapped files, and about 3 % of that.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.projection import Projection, with_rest
from index.rounding import Reduced
from index.scans.graph import Graph
from index.scans.panorama import LEVEL, Panorama, padded
from index.scans.scan import LONGEST32, Rows, Vectors

__all__ = ["ReducedScan", "Sizes", "write_reduced"]

SHARD = 65_536  # rows at most: fewer are not worth a thread's time
MOST = 4096  # rows that may be left to measure: for more, brute force, which copies none of them, is as good

Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]  # squared distances (j,) and rows (j,)
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Sizes:
    """How many components are kept of a row, and how they are searched."""

    proof: int
    proposals: int
    graph: bool  # proposals come from a graph, in place of a look at every row

    def proof_file(self, folder: Path, number: int) -> Path:
        return folder / f"proof-{self.proof}-{number:03}.faiss"

    def proposals_file(self, folder: Path, number: int) -> Path:
        return folder / f"{'graph' if self.graph else 'proposals'}-{self.proposals}-{number:03}.faiss"


@dataclass(frozen=True)
class Shard:
    """Rows `first` ... of all segments' rows, for proposals."""

    first: int
    index: Panorama | Graph


@dataclass(frozen=True)
class Proof:
    """Rows `first` ... of all segments' rows, for proofs."""

    first: int
    index: Panorama
    only: Any = None  # those of them that may be found, as Panorama.selector gives them; None is all


def write_reduced(folder: Path, rows: Rows, projection: Projection, sizes: Sizes) -> None:
    """Write the files of one segment that a ReducedScan opens, each that is missing. Raises OSError."""
    count, graph = len(rows.ids), sizes.proposals_file(folder, 0)
    few = np.empty((count, _width(sizes.proposals)), np.float32) if sizes.graph and not graph.exists() else None
    for number, part in enumerate(_divided(count)):
        proof, proposals = sizes.proof_file(folder, number), sizes.proposals_file(folder, number)
        proves, proposes = proof.exists(), sizes.graph or proposals.exists()
        if proves and proposes and few is None:
            continue
        components = projection.components(rows.features[part], 0, sizes.proof)
        if not proves:
            Panorama.write(proof, padded(with_rest(components, rows.lengths[part])))
        if not proposes:
            Panorama.write(proposals, padded(components[:, : sizes.proposals]))
        if few is not None:
            few[part] = padded(components[:, : sizes.proposals])
    if few is not None:
        Graph.write(graph, few)


class ReducedScan:
    """Find candidates among the rows of segments, in whose folders `write_reduced` wrote.

    `pool` searches the shards side by side when there is one query. Rows must fit (LONGEST32). Raises BadBundle for
    files that cannot be read or do not belong to the rows.
    """

    def __init__(
        self, segments: Sequence[tuple[Path, Rows]], projection: Projection, sizes: Sizes, pool: Executor
    ) -> None:
        self.projection, self.sizes, self.pool = projection, sizes, pool
        self.partial = False  # some rows alone are searched
        width = _width(sizes.proof + 1)
        self.rounding = Reduced(width, width // LEVEL, projection.error, projection.tiny)
        self.proof: list[Proof] = []
        self.proposals: list[Shard] = []
        first = 0
        for folder, rows in segments:
            self._open(folder, len(rows.ids), first)
            first += len(rows.ids)

    def ask(self, queries: Vectors, k: int) -> "Asked":
        """Project the queries."""
        del k
        return Asked(self, queries)

    def among(self, rows: NDArray[np.int64]) -> "ReducedScan":
        """Return this scan of some rows (j,) alone, ascending. What proves proposes them, too: a graph may miss all."""
        scan = copy(self)
        firsts = [shard.first for shard in self.proof]
        parts = np.split(rows, np.searchsorted(rows, firsts[1:]))
        scan.proof = [
            replace(shard, only=shard.index.selector(part - shard.first))
            for shard, part in zip(self.proof, parts, strict=True)
            if len(part)
        ]
        scan.partial = True
        return scan

    def _open(self, folder: Path, count: int, first: int) -> None:
        sizes = self.sizes
        few = _width(sizes.proposals)
        for number, part in enumerate(_divided(count)):
            start, n = first + part.start, part.stop - part.start
            proof = Panorama(sizes.proof_file(folder, number), n, self.rounding.dimensions)
            self.proof.append(Proof(start, proof))
            if not sizes.graph:
                self.proposals.append(Shard(start, Panorama(sizes.proposals_file(folder, number), n, few)))
        if sizes.graph and count:
            self.proposals.append(Shard(first, Graph(sizes.proposals_file(folder, 0), count, few)))


class Asked:
    """The reduced scan's answers about some queries."""

    def __init__(self, scan: ReducedScan, queries: Vectors) -> None:
        self._scan = scan
        self._fits = queries.lengths < LONGEST32
        self._vectors = np.where(self._fits[:, None], queries.vectors, np.float32(0))
        self._lengths = np.where(self._fits, queries.lengths, 0)
        self._leading = scan.projection.components(self._vectors, 0, scan.sizes.proposals)
        self._few = padded(self._leading)
        # Several queries are shared out by the caller, one alone is shared out here.
        self._map: Map = scan.pool.map if len(self._vectors) == 1 and len(scan.proof) > 1 else map

    @cached_property
    def _proof(self) -> NDArray[np.float32]:
        """(q, w): what proofs need, which proposals alone do not."""
        sizes = self._scan.sizes
        others = self._scan.projection.components(self._vectors, sizes.proposals, sizes.proof)
        return padded(with_rest(np.concatenate([self._leading, others], axis=1), self._lengths))

    def proposed(self, query: int, k: int) -> NDArray[np.int64] | None:
        """Rows that are nearest by the few numbers, nearest first; None for a query whose square overflows."""
        if not self._fits[query]:
            return None

        def nearest(shard: Shard) -> Ranked:
            squared, rows = shard.index.nearest(self._few[query], k)
            return squared, rows + shard.first

        def selected(shard: Proof) -> Ranked:
            squared, rows = shard.index.nearest(self._proof[query], k, shard.only)
            return squared, rows + shard.first

        if self._scan.partial:
            found = list(self._map(selected, self._scan.proof))
        else:
            found = list(self._map(nearest, self._scan.proposals))
        order = np.argsort(np.concatenate([squared for squared, _ in found]))[:k]
        rows: NDArray[np.int64] = np.concatenate([rows for _, rows in found])[order]
        return rows

    def within(self, query: int, distance: float) -> NDArray[np.int64] | None:
        """Every row at `distance` or nearer, and some others; None for more than MOST."""
        ceiling = self._scan.rounding.ceiling(distance, float(self._lengths[query]))
        limit = float(np.nextafter(np.float32(ceiling), np.float32(np.inf)))

        def within(shard: Proof) -> NDArray[np.int64]:
            return shard.index.within(self._proof[query], limit, shard.only) + shard.first

        rows: NDArray[np.int64] = np.concatenate(list(self._map(within, self._scan.proof)))
        return rows if len(rows) <= MOST else None


def _divided(count: int) -> list[slice]:
    """Divide rows into shards that are about equal."""
    edges = np.linspace(0, count, -(-count // SHARD) + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]


def _width(numbers: int) -> int:
    """Return how many numbers a reduced row has with its padding."""
    return int(padded(np.empty((1, numbers), np.float32)).shape[1])
