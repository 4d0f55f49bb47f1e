"""From a loader thread's memory to the device that computes.

On a GPU a batch is copied by a stream of its own, from pinned memory, while the previous batches are computed. Two
things must be waited for, and neither stops the thread that computes: its stream waits on the GPU until the batch is
there, and a loader thread waits before it writes again into memory that is being copied.
"""

from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Sent", "Transfer", "transfer_to"]


class Sent(Protocol):
    """A batch on its way to the device."""

    def receive(self) -> tuple[Tensor, Tensor]:
        """Return images and labels on the device, ready for what the calling thread computes next."""

    def wait(self) -> None:
        """Block until the memory that was sent may be written again."""


class Transfer(Protocol):
    """The way to one device."""

    pinned: bool  # whether what is sent must lie in pinned memory

    def begin_thread(self) -> None:
        """Prepare the calling thread; each loader thread does this first."""

    def send(self, images: Tensor, labels: Tensor) -> Sent:
        """Start the copy of a batch. Safe in any thread that is prepared."""


def transfer_to(device: torch.device) -> Transfer:
    """The way to `device`."""
    return CudaTransfer(device) if device.type == "cuda" else HostTransfer()


class HostTransfer:
    """To the CPU: the batch is used where it lies."""

    pinned = False

    def begin_thread(self) -> None:
        """Nothing to prepare."""

    def send(self, images: Tensor, labels: Tensor) -> Sent:
        """Nothing to copy."""
        return _There(images, labels)


class _There:
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.tensors = images, labels

    def receive(self) -> tuple[Tensor, Tensor]:
        return self.tensors

    def wait(self) -> None:
        pass


class CudaTransfer:
    """To one GPU, by a stream beside the one that computes."""

    pinned = True

    def __init__(self, device: torch.device) -> None:
        # "cuda" means the caller's current device; the loader threads' own current device is GPU 0.
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self.stream = _copying_stream(index)

    def begin_thread(self) -> None:
        """Make the GPU current in this thread: pinning memory would otherwise open a context on GPU 0."""
        torch.cuda.set_device(self.device)

    def send(self, images: Tensor, labels: Tensor) -> Sent:
        """Copy from pinned memory, asynchronously. The device's memory is taken from the copying stream's pool."""
        with torch.cuda.stream(self.stream):
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in (images, labels))
            copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            copied.record(self.stream)
        return _Copying(images, labels, copied)


@cache
def _copying_stream(index: int) -> torch.cuda.Stream:
    """One a GPU: the allocator keeps the memory of each stream apart, so one an epoch would hold more and more."""
    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]


class _Copying:
    def __init__(self, images: Tensor, labels: Tensor, copied: Any) -> None:
        self.tensors, self.copied = (images, labels), copied

    def receive(self) -> tuple[Tensor, Tensor]:
        """The computing stream waits for the copy; this thread does not."""
        computing = torch.cuda.current_stream(self.tensors[0].device)
        computing.wait_event(self.copied)
        for tensor in self.tensors:
            tensor.record_stream(computing)  # the copying stream may not reuse it before that has finished with it
        return self.tensors

    def wait(self) -> None:
        self.copied.synchronize()
