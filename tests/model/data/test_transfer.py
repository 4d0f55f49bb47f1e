"""Which GPU a loader's threads make current; the copies themselves are tested with the loader."""

from functools import cache

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
