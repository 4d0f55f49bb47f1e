"""Every row once, in an order of seed and epoch alone, well mixed even where the set outgrows memory."""

import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.data import loader
from model.data.loader import Rows, Subset, in_order, order, read

CPU = torch.device("cpu")


class Numbered:
    """Image i is filled with i; counts its reads."""

    def __init__(self, count: int, size: int = 4) -> None:
        self.labels = np.arange(count, dtype=np.int64) * 10
        self.size = size
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        self.reads += 1
        wanted = np.arange(len(self))[rows]
        if (wanted >= 250).any():
            raise OSError("the disk is gone")
        images = np.broadcast_to(wanted[:, None, None, None], (len(wanted), self.size, self.size, 3)).astype(np.uint8)
        if out is None:
            return images
        out[:] = images
        return out


@given(rows=st.integers(0, 500), window=st.integers(1, 600), block=st.integers(1, 40), epoch=st.integers(0, 3))
def test_an_epoch_has_every_row_once(rows: int, window: int, block: int, epoch: int) -> None:
    mixed = order(7, epoch, rows, window, block)
    assert mixed.dtype == np.int64
    assert np.array_equal(np.sort(mixed), np.arange(rows))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(order(1, 2, 1000, 1000), order(1, 2, 1000, 1000))
    assert not np.array_equal(order(1, 2, 1000, 1000), order(1, 3, 1000, 1000))
    assert not np.array_equal(order(1, 2, 1000, 1000), order(2, 2, 1000, 1000))


def test_a_window_over_everything_is_a_full_shuffle() -> None:
    """Places are uniform: the mean distance that a row moves is n / 3, and neighbours part."""
    rows = 20_000
    mixed = order(0, 0, rows, window=rows)
    moved = np.abs(mixed - np.arange(rows)).mean()
    assert moved == pytest.approx(rows / 3, rel=0.03)
    assert (np.abs(np.diff(mixed)) < 32).mean() < 3 * 64 / rows


def test_a_set_sorted_by_class_is_well_mixed_through_a_window_of_a_hundredth() -> None:
    """ImageNet's worst case: rows in class order, 1,281,152 of them in 1,000 classes, a window of 10,922 images.

    A batch of 128 from a full shuffle shows 120.2 classes; through the window it must show at least 100, and over
    the epoch each tenth of the batches must hold its share of every tenth of the classes.
    """
    rows, classes, batch = 1_281_152, 1000, 128
    mixed = order(0, 0, rows, loader.window_of(256))
    labels = (mixed * classes // rows).reshape(-1, batch)
    shown = np.array([len(np.unique(row)) for row in labels[::50]])
    assert shown.mean() > 100
    assert shown.min() > 85
    tenth_of_batches = np.arange(len(labels))[:, None] * 10 // len(labels)
    counts = np.zeros((10, 10))
    np.add.at(counts, (np.broadcast_to(tenth_of_batches, labels.shape), labels // 100), 1)
    np.testing.assert_allclose(counts / (rows / 100), 1, atol=0.35)  # blocks of 32 vary more than single rows


def test_reads_through_a_window_stay_within_its_blocks() -> None:
    """What makes it fast on a disk: one window touches a window's worth of blocks, each wholly."""
    rows, window = 100_000, 3_200
    mixed = order(3, 1, rows, window)
    for part in np.array_split(mixed, 32):
        assert len(np.unique(part // 32)) <= len(part) // 32 + 2


def test_read_gives_the_rows_asked_for_in_order_at_any_batch_size() -> None:
    source = Numbered(100)
    wanted = np.split(order(0, 0, 100, 100), [16, 32, 48, 50, 99])
    for rows, batch in zip(wanted, read(source, wanted, 4, CPU), strict=True):
        assert batch.images.shape == (len(rows), 4, 4, 3)
        assert batch.images[:, 0, 0, 0].tolist() == rows.tolist()
        assert batch.labels.tolist() == (rows * 10).tolist()


def test_read_goes_ahead_but_not_far() -> None:
    source = Numbered(100)
    batches = read(source, in_order(100, 5), 4, CPU)
    next(batches)
    for _ in range(200):
        if source.reads == loader.AHEAD + 1:
            break
        time.sleep(0.01)
    time.sleep(0.05)  # in which it would go further
    assert source.reads == loader.AHEAD + 1
    batches.close()
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_an_error_while_reading_reaches_the_reader() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        list(read(Numbered(300), in_order(300, 32), 4, CPU))
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_a_part_is_a_split_of_its_own() -> None:
    part = Subset(Numbered(100), np.array([5, 50, 7]))
    assert len(part) == 3
    assert part.labels.tolist() == [50, 500, 70]
    assert part.images(np.array([2, 0]))[:, 0, 0, 0].tolist() == [7, 5]
    assert part.images(slice(1, 3))[:, 0, 0, 0].tolist() == [50, 7]


def test_in_order_covers_everything_with_a_short_last_batch() -> None:
    assert [rows.tolist() for rows in in_order(5, 2)] == [[0, 1], [2, 3], [4]]
    assert in_order(0, 2) == []
    assert [len(rows) for rows in in_order(4, 2)] == [2, 2]


class LateTransfer:
    """Copies as a GPU does: some time after it was told to, from memory that must stay as it is until then."""

    pinned = False

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.stream = ThreadPoolExecutor(1, "stream")
        self.prepared: list[str] = []

    def begin_thread(self) -> None:
        self.prepared.append(threading.current_thread().name)

    def send(self, images: Tensor, labels: Tensor) -> "LateCopy":
        assert threading.current_thread().name in self.prepared
        delay = float(self.random.choice([0, 0.002, 0.01]))
        return LateCopy(self.stream.submit(self.copy, images, labels, delay))

    def copy(self, images: Tensor, labels: Tensor, delay: float) -> tuple[Tensor, Tensor]:
        time.sleep(delay)
        return images.clone(), labels.clone()


@dataclass(frozen=True)
class LateCopy:
    copied: Future[tuple[Tensor, Tensor]]

    def receive(self) -> tuple[Tensor, Tensor]:
        return self.copied.result(timeout=60)

    def wait(self) -> None:
        self.copied.result(timeout=60)


def test_memory_that_is_still_being_copied_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer hurries on: it hands a batch's memory back before that was copied, as a GPU's does."""
    late = LateTransfer(np.random.default_rng(0))
    monkeypatch.setattr(loader, "transfer_to", lambda _: late)
    wanted = in_order(240, 3)
    with late.stream:
        hurried = [batch.copied for batch in sent_by(monkeypatch, wanted)]
        for rows, copied in zip(wanted, hurried, strict=True):
            images, labels = copied.result(timeout=60)
            assert images[:, 0, 0, 0].tolist() == rows.tolist()
            assert labels.tolist() == (rows * 10).tolist()
    assert 1 <= len(late.prepared) <= loader.THREADS


def sent_by(monkeypatch: pytest.MonkeyPatch, wanted: list[NDArray[np.int64]]) -> list[LateCopy]:
    """What `read` sent, taken without waiting for any copy."""
    taken: list[LateCopy] = []

    def receive(sent: LateCopy) -> tuple[Tensor, Tensor]:
        taken.append(sent)
        return torch.empty(0), torch.empty(0)

    with monkeypatch.context() as patch:
        patch.setattr(LateCopy, "receive", receive)
        for _ in read(Numbered(240), wanted, 4, CPU):
            pass
    return taken


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches_however_late_either_side_is() -> None:
    """The GPU computes between two batches, so that copies wait for it and it for copies; reads take a random time."""
    random, device = np.random.default_rng(0), torch.device("cuda")
    work = torch.randn(2048, 2048, device=device)
    wanted = in_order(250, 8) * 20
    found: list[tuple[Tensor, Tensor]] = []
    for batch in read(Delayed(Numbered(250, 64), random), wanted, 64, device):
        for _ in range(int(random.integers(0, 8))):
            work = (work @ work).clamp(-1, 1)
        found.append((batch.images[:, 1, 1, 1] + 0, batch.labels + 0))
    for rows, (images, labels) in zip(wanted, found, strict=True):
        assert images.tolist() == rows.tolist()
        assert labels.tolist() == (rows * 10).tolist()


@dataclass(frozen=True)
class Delayed:
    """Takes a random time for each read."""

    source: Numbered
    random: np.random.Generator

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        time.sleep(float(self.random.uniform(0, 0.003)))
        return self.source.images(rows, out)


SECOND_GPU = """
import subprocess
import numpy as np
import torch
from model.data.loader import in_order, read
from tests.model.data.test_loader import Numbered

def used():  # MiB on GPU 0, asked of the driver, because torch would open a context to know it
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)

before = used()
for rows, batch in zip(in_order(250, 8), read(Numbered(250), in_order(250, 8), 4, torch.device("cuda:1")), strict=True):
    assert batch.images.device.index == batch.labels.device.index == 1
    assert batch.images[:, 1, 1, 1].tolist() == rows.tolist()
print(used() - before)
"""


@pytest.mark.gpu(2)
def test_the_second_gpus_loader_opens_nothing_on_the_first() -> None:
    command = [sys.executable, "-c", SECOND_GPU]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100  # a context takes some hundred
