"""From a packed split to batches on the device: shuffled, and read ahead by threads.

An epoch's order is a pure function of (seed, epoch): blocks of neighbouring rows in random order, then every row at
random within a window of many blocks. A dataset that fits the window (2 GiB) is shuffled fully. Of a larger one, the
pages of one window stay in memory while it is used, so that the disk is read in runs of neighbouring rows.
"""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.pixels import Rows
from model.data.transfer import Sent, Transfer, transfer_to
from model.randomness import Stream, numpy_generator

__all__ = ["Batch", "Dataset", "Rows", "Subset", "in_order", "order", "read"]

WINDOW_BYTES = 2 << 30  # images that are mixed with each other
BLOCK = 32  # neighbouring rows that are read together: 6 MB at 256 x 256
AHEAD = 4  # batches read, and sent to the device, before they are asked for
THREADS = 2  # that read


class Dataset(Protocol):
    """Stored images with labels, by row: a packed split or a subset of one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,)"""

    def __len__(self) -> int:
        """The number of rows."""

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8 (b, S, S, 3), into `out` where given."""


@dataclass(frozen=True)
class Subset:
    """Some rows of a dataset, as a dataset of their own."""

    whole: Dataset
    rows: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,)"""
        return self.whole.labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8 (b, S, S, 3), into `out` where given."""
        return self.whole.images(self.rows[rows], out)


@dataclass(frozen=True)
class Batch:
    """A batch on the device, valid until the next one is asked for."""

    images: Tensor  # uint8 (b, S, S, 3)
    labels: Tensor  # int64 (b,)


def order(seed: int, epoch: int, rows: int, window: int, block: int = BLOCK) -> NDArray[np.int64]:
    """The order of `rows` rows in one epoch: each once, mixed within windows of `window` rows; int64 (rows,)."""
    random = numpy_generator(seed, Stream.ORDER, epoch)
    blocks = random.permutation(-(-rows // block))
    mixed = (blocks[:, None] * block + np.arange(block)).reshape(-1)
    mixed = mixed[mixed < rows]
    for part in np.array_split(mixed, max(1, -(-rows // window))):  # equal parts: a short last one would mix badly
        random.shuffle(part)
    return mixed.astype(np.int64, copy=False)


def window_of(size: int) -> int:
    """The number of stored images of `size` x `size` pixels that are mixed with each other."""
    return max(WINDOW_BYTES // (size * size * 3), BLOCK)


def in_order(rows: int, batch: int) -> list[NDArray[np.int64]]:
    """Batches of row numbers: every row once, in order; the last batch may be shorter."""
    return np.split(np.arange(rows), range(batch, rows, batch)) if rows else []


def read(source: Dataset, batches: Iterable[NDArray[np.int64]], size: int, device: torch.device) -> Generator[Batch]:
    """Yield the images and labels of each batch of row numbers.

    Threads read up to AHEAD batches ahead, into a ring of buffers that are used again.
    """
    transfer = transfer_to(device)
    ring = deque(_Buffer(transfer) for _ in range(AHEAD + 1))
    labels = source.labels
    wanted = iter(batches)
    pending: deque[tuple[_Buffer, Future[Sent]]] = deque()
    with ThreadPoolExecutor(THREADS, "loader", transfer.begin_thread) as pool:
        try:
            while True:
                while ring and (rows := next(wanted, None)) is not None:
                    buffer = ring.popleft()
                    pending.append((buffer, pool.submit(buffer.load, source, labels, rows, size)))
                if not pending:
                    return
                buffer, sent = pending.popleft()
                yield Batch(*sent.result().receive())
                ring.append(buffer)
        finally:
            for _, sent in pending:
                sent.cancel()


class _Buffer:
    """Host memory for one batch, used again and again; on a CPU the batch is this memory."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.images = torch.empty(0, dtype=torch.uint8)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.sent: Sent | None = None

    def load(self, source: Dataset, labels: NDArray[np.int64], rows: NDArray[np.int64], size: int) -> Sent:
        """Read `rows` and start to send them to the device."""
        if self.sent is not None:
            self.sent.wait()
        self.images = self._memory(self.images, len(rows) * size * size * 3)
        self.labels = self._memory(self.labels, len(rows))
        images = self.images[: len(rows) * size * size * 3].view(len(rows), size, size, 3)
        source.images(rows, images.numpy())
        np.take(labels, rows, out=self.labels[: len(rows)].numpy())
        self.sent = self.transfer.send(images, self.labels[: len(rows)])
        return self.sent

    def _memory(self, memory: Tensor, count: int) -> Tensor:
        """At least `count` numbers of the same type."""
        if memory.numel() >= count:
            return memory
        return torch.empty(count, dtype=memory.dtype, pin_memory=self.transfer.pinned)
