"""The bytes that the planner counts are the bytes that FAISS holds, and the bandwidth is one of a machine."""

from typing import Any

import faiss
import numpy as np
import pytest

from index.costs import bandwidth, milliseconds, needed, reads
from index.layout import Layout

WIDTH = 256


def held(rows: int, numbers: int) -> int:
    """Bytes that FAISS's Panorama index holds for rows of so many numbers, 32 to a level, 512 rows to a batch."""
    index: Any = faiss.IndexFlatL2Panorama(numbers, numbers // 32, 512)
    index.add(np.zeros((rows, numbers), np.float32))
    return int(index.codes.size() + 4 * index.cum_sums.size())


@pytest.mark.parametrize("rows", [1, 512, 513, 2000])
def test_the_bytes_of_panorama_are_faiss_s(rows: int) -> None:
    layout = Layout("panorama", components=64, leading=31)  # with the length of the rest: 65 and 32 numbers
    projection, lengths_and_ids = 4 * WIDTH * 64, 16 * rows
    assert needed(rows, WIDTH, layout) == projection + lengths_and_ids + held(rows, 96) + held(rows, 32)


def test_the_bytes_of_a_graph_are_faiss_s() -> None:
    rows = 2000
    graph = faiss.IndexHNSWFlat(32, 32)
    graph.add(np.random.default_rng(0).standard_normal((rows, 32), dtype=np.float32))
    found = faiss.serialize_index(graph).nbytes
    layout = Layout("hnsw", components=64, leading=31)
    counted = needed(rows, WIDTH, layout) - 4 * WIDTH * 64 - 16 * rows - held(rows, 96)
    assert counted == pytest.approx(found, rel=0.05)


def test_a_flat_scan_reads_every_row_and_the_others_less() -> None:
    rows, width = 100_000, 4096
    assert reads(rows, width, Layout()).certified == 4 * rows * width
    panorama = reads(rows, width, Layout("panorama", 512, 128))
    assert panorama.measured < panorama.certified < reads(rows, width, Layout("panorama", 64, 32)).certified
    assert panorama.certified < 4 * rows * width / 5


def test_the_bandwidth_gives_the_time() -> None:
    speed = bandwidth(megabytes=16)
    assert 1e8 < speed.one <= speed.all < 1e13
    certified, measured = milliseconds(1000, 100, Layout(), speed)
    assert certified == measured == 4 * 1000 * 100 / speed.all * 1e3
