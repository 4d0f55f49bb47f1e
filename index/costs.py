"""What a layout costs: the bytes that must stay in memory, and the time of one query.

The expected time is the bytes that a query reads, divided by the bandwidth that this machine was measured to have. How
many rows survive each scan was measured on fc7 features of CIFAR-10; `scripts/benchmark.py index` prints the expected
time beside the measured one. n rows of d numbers.
"""

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from index.layout import COMPONENTS, Layout
from index.scans.graph import LINKS
from index.scans.panorama import BATCH, LEVEL
from index.scans.reduced import SHARD

__all__ = ["Bandwidth", "Reads", "bandwidth", "milliseconds", "needed", "reads"]

REST = 0.2  # of what lies behind a row's first level, what Panorama reads
SURVIVORS, STEEPNESS = 0.0032, 1.4  # rows that COMPONENTS cannot leave out; the share grows as they get fewer
VISITED = 1500  # rows that a graph's search compares, among 2^16 rows
RANDOM = 6  # times as long to read rows in a graph's order as one after the other
CHOSEN = 4  # times as long to read and measure whole rows here and there


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second that this machine reads from memory."""

    one: float  # by one core
    all: float  # by all cores together


@dataclass(frozen=True)
class Reads:
    """Bytes read for one query; what is slower than reading counts as so many times its bytes."""

    certified: float  # for a proven answer
    measured: float  # for the proposals alone


def bandwidth(megabytes: int = 128) -> Bandwidth:
    """Measure how fast memory is read, by reading a buffer several times; it takes about a tenth of a second."""
    cores = os.cpu_count() or 1
    buffer = np.ones(megabytes << 18, np.int32)
    with ThreadPoolExecutor(cores) as pool:

        def seconds(parts: int) -> float:
            shares, taken = np.array_split(buffer, parts), []
            for _ in range(5):
                begun = time.perf_counter()
                list(pool.map(np.max, shares))
                taken.append(time.perf_counter() - begun)
            return min(taken)

        one, together = seconds(1), seconds(cores)
    return Bandwidth(buffer.nbytes / one, buffer.nbytes / min(one, together))


def needed(rows: int, width: int, layout: Layout) -> int:
    """Bytes that must stay in memory for the expected time."""
    if layout.kind == "flat":
        return rows * (4 * width + 12)  # the rows, their lengths and ids
    projection = 8 * width * min(COMPONENTS, width) + rows * 16  # lengths and ids
    few = _filled(layout.leading)
    proposing = _panorama(rows, few) if layout.kind == "panorama" else _graph(rows, few)
    return projection + proposing + _panorama(rows, _filled(layout.components + 1))


def reads(rows: int, width: int, layout: Layout) -> Reads:
    """Return what one query reads."""
    if layout.kind == "flat":
        return Reads(4.0 * rows * width, 4.0 * rows * width)
    few, row, direction = _filled(layout.leading), 4 * width, 8 * width
    graph = RANDOM * min(VISITED, rows) * 4 * few * max(1.0, math.log2(rows) / 16)
    proposing = graph if layout.kind == "hnsw" else _scanned(rows, few)
    measured = direction * layout.leading + proposing + CHOSEN * row * min(layout.candidates, rows)
    survivors = rows * min(1.0, SURVIVORS * (COMPONENTS / layout.components) ** STEEPNESS)
    proving = direction * (layout.components - layout.leading) + _scanned(rows, _filled(layout.components + 1))
    return Reads(measured + proving + CHOSEN * row * survivors, measured)


def milliseconds(rows: int, width: int, layout: Layout, speed: Bandwidth) -> tuple[float, float]:
    """Expected time of one query on the CPU, certified and measured, while what is read is in the page cache.

    All cores share a scan of whole rows, or of several shards; one follows a graph.
    """
    read = reads(rows, width, layout)
    scan = speed.all if layout.kind == "flat" or rows > SHARD else speed.one
    return read.certified / scan * 1e3, read.measured / (speed.one if layout.kind == "hnsw" else scan) * 1e3


def _filled(numbers: int) -> int:
    """Numbers that are stored of a row: whole levels."""
    return -(-numbers // LEVEL) * LEVEL


def _panorama(rows: int, stored: int) -> int:
    """Bytes of FAISS's codes and of the sums that it keeps for each level."""
    shards = math.ceil(rows / SHARD)
    slots = shards * math.ceil(rows / shards / BATCH) * BATCH
    return 4 * slots * (stored + stored // LEVEL + 1)


def _graph(rows: int, stored: int) -> int:
    """Bytes of the graph: each row's numbers, links and place in it."""
    return rows * (4 * stored + 4 * 2 * LINKS + 16)


def _scanned(rows: int, stored: int) -> float:
    """Bytes that a scan by Panorama reads: the first level of every row with its sums, and a share of the others."""
    return 4 * rows * (LEVEL + 2 + REST * (stored - LEVEL))
