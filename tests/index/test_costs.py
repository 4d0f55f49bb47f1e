"""The bytes that the planner counts are the bytes of the files, and the bandwidth is one of a machine."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from index import costs
from index.costs import bandwidth, milliseconds, needed, reads
from index.layout import Layout, prepare
from index.scans import reduced

WIDTH = 256


def written(folder: Path, rows: int, layout: Layout) -> int:
    """Bytes of the files that `prepare` writes, and of the ids."""
    np.save(folder / "features.npy", np.random.default_rng(0).standard_normal((rows, WIDTH), dtype=np.float32))
    np.save(folder / "ids.npy", np.arange(rows))
    prepare(folder, folder, layout)
    return sum(file.stat().st_size for file in folder.iterdir() if file.name != "features.npy")


@pytest.mark.parametrize("kind", ["panorama", "hnsw"])
@pytest.mark.parametrize("rows", [1, 1025, 5000])
def test_the_bytes_are_those_of_the_files(
    rows: int, kind: Literal["panorama", "hnsw"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (costs, reduced):
        monkeypatch.setattr(module, "SHARD", 2048)  # so that there are several
    layout = Layout(kind, components=96, leading=32)
    assert needed(rows, WIDTH, layout) == pytest.approx(written(tmp_path, rows, layout), rel=0.03)


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
