"""From a packed split to batches on the device: a shuffle that outgrows memory gracefully, reads ahead in the
background.

An epoch's order is a pure function of (seed, epoch): blocks of neighbouring rows in random order, then every row at
random within a window of many blocks. A set that fits the window (2 GiB) is shuffled fully; of a larger one a window's
pages stay in memory while it is used, so that disk reads stay runs of neighbouring rows.
"""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Batch", "Dataset", "Subset", "in_order", "order", "read"]

STREAM = 0  # keeps these draws apart from augmentation's, which have the same seed
WINDOW_BYTES = 2 << 30  # images that are mixed with each other
BLOCK = 32  # neighbouring rows that are read together: 6 MB at 256 x 256
AHEAD = 4  # batches read before they are asked for

Rows = slice | NDArray[np.int64]


class Dataset(Protocol):
    """Labelled stored images by row: a packed split, or a part of one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,)"""

    def __len__(self) -> int:
        """How many rows."""

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8 (b, S, S, 3), into `out` where given."""


@dataclass(frozen=True)
class Subset:
    """Some rows of a split, as a split of their own."""

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
    """Images on the device; `images` is valid until the next batch is asked for."""

    images: Tensor  # uint8 (b, S, S, 3)
    labels: Tensor  # int64 (b,)


def order(seed: int, epoch: int, rows: int, window: int, block: int = BLOCK) -> NDArray[np.int64]:
    """Epoch `epoch`'s order of `rows` rows: each exactly once, mixed within `window` places; int64 (rows,)."""
    random = np.random.default_rng([seed, STREAM, epoch])
    blocks = random.permutation(-(-rows // block))
    mixed = (blocks[:, None] * block + np.arange(block)).reshape(-1)
    mixed = mixed[mixed < rows]
    for part in np.array_split(mixed, max(1, -(-rows // window))):  # equal parts: a short last one would mix badly
        random.shuffle(part)
    return mixed.astype(np.int64, copy=False)


def window_of(size: int) -> int:
    """How many stored images of `size` x `size` pixels are mixed with each other."""
    return max(WINDOW_BYTES // (size * size * 3), BLOCK)


def in_order(rows: int, batch: int) -> list[NDArray[np.int64]]:
    """Every row once, in order, the last batch shorter."""
    return np.split(np.arange(rows), range(batch, rows, batch)) if rows else []


def read(source: Dataset, batches: Iterable[NDArray[np.int64]], size: int, device: torch.device) -> Generator[Batch]:
    """The images and labels of each batch of row numbers, read ahead by threads into a ring of reused buffers."""
    pinned = device.type == "cuda"
    ring = deque(_Buffer(pinned) for _ in range(AHEAD + 1))
    labels = source.labels
    wanted = iter(batches)
    pending: deque[tuple[_Buffer, NDArray[np.int64], Future[Tensor]]] = deque()
    with ThreadPoolExecutor(2, thread_name_prefix="loader") as pool:
        try:
            while True:
                while ring and (rows := next(wanted, None)) is not None:
                    buffer = ring.popleft()
                    pending.append((buffer, rows, pool.submit(buffer.fill, source, rows, size)))
                if not pending:
                    return
                buffer, rows, images = pending.popleft()
                taken = torch.from_numpy(labels[rows])
                yield Batch(buffer.sent(images.result(), device), taken.to(device))
                ring.append(buffer)
        finally:
            for _, _, images in pending:
                images.cancel()


class _Buffer:
    """Memory for one batch, pinned for a GPU, and not written again before the GPU has fetched what was in it."""

    def __init__(self, pinned: bool) -> None:
        self.pinned = pinned
        self.memory = torch.empty(0, dtype=torch.uint8)
        self.fetched: Any = None  # torch.cuda.Event

    def fill(self, source: Dataset, rows: NDArray[np.int64], size: int) -> Tensor:
        """Read `rows` into it: uint8 (b, S, S, 3)."""
        if self.fetched is not None:
            self.fetched.synchronize()
        count = len(rows) * size * size * 3
        if self.memory.numel() < count:
            self.memory = torch.empty(count, dtype=torch.uint8, pin_memory=self.pinned)
        images = self.memory[:count].view(len(rows), size, size, 3)
        source.images(rows, images.numpy())
        return images

    def sent(self, images: Tensor, device: torch.device) -> Tensor:
        """The same on `device`; on a GPU the copy runs beside the computation."""
        if not self.pinned:
            return images
        there = images.to(device, non_blocking=True)
        self.fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.fetched.record()
        return there
