"""Which GPU a loader's threads make current, and which stream does what; real copies are tested with the loader."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from model.data import transfer


@pytest.mark.parametrize(("asked", "current", "chosen"), [("cuda:1", 0, 1), ("cuda", 2, 2), ("cuda:0", 2, 0)])
def test_a_loader_thread_makes_the_asked_gpu_current(
    monkeypatch: pytest.MonkeyPatch, asked: str, current: int, chosen: int
) -> None:
    """A new thread's current device is GPU 0: "cuda" is the device of the thread that asked."""
    made: list[torch.device] = []
    streams: list[int] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(torch.cuda, "Stream", streams.append)
    monkeypatch.setattr(transfer, "_copying_stream", cache(transfer._copying_stream.__wrapped__))
    for _ in range(2):
        way = transfer.transfer_to(torch.device(asked))
        way.begin_thread()
        assert way.pinned
    assert made == [torch.device("cuda", chosen)] * 2
    assert streams == [chosen]  # one a GPU, however often a loader is started


class Gpu:
    """Stands for torch.cuda and its tensors; notes what happens in which stream."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.in_stream = "computing"

    def note(self, what: str) -> None:
        self.notes.append(f"{what} in {self.in_stream}")

    @contextmanager
    def stream(self, stream: "GpuStream") -> Iterator[None]:
        self.in_stream, before = stream.name, self.in_stream
        yield
        self.in_stream = before


class GpuStream:
    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name = gpu, name

    def wait_event(self, event: "GpuEvent") -> None:
        self.gpu.notes.append(f"{self.name} waits for what was recorded in {event.recorded}")


class GpuEvent:
    recorded = "no stream"

    def record(self, stream: GpuStream) -> None:
        self.recorded = stream.name
        stream.gpu.note("record")


class GpuTensor:
    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name, self.device = gpu, name, torch.device("cuda", 1)

    def to(self, device: torch.device, *, non_blocking: bool) -> "GpuTensor":
        assert (device, non_blocking) == (self.device, True)
        self.gpu.note(f"copy {self.name}")
        return self

    def record_stream(self, stream: GpuStream) -> None:
        self.gpu.notes.append(f"keep {self.name} for {stream.name}")


def test_copies_run_in_the_copying_stream_and_the_computing_stream_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, events = Gpu(), list[GpuEvent]()

    def event(*, blocking: bool) -> GpuEvent:
        assert blocking  # the loader thread that waits must not spin
        events.append(GpuEvent())
        return events[-1]

    monkeypatch.setattr(transfer, "_copying_stream", lambda _: GpuStream(gpu, "copying"))
    monkeypatch.setattr(torch.cuda, "stream", gpu.stream)
    monkeypatch.setattr(torch.cuda, "Event", event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: GpuStream(gpu, "computing"))
    way: Any = transfer.transfer_to(torch.device("cuda", 1))
    sent = way.send(GpuTensor(gpu, "images"), GpuTensor(gpu, "labels"))
    assert gpu.notes == ["copy images in copying", "copy labels in copying", "record in copying"]
    gpu.notes.clear()
    images, labels = sent.receive()
    assert (images.name, labels.name) == ("images", "labels")
    waits = "computing waits for what was recorded in copying"
    assert gpu.notes == [waits, "keep images for computing", "keep labels for computing"]
