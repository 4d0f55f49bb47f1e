"""Which GPU a loader's threads make current; the copies themselves are tested with the loader."""

import pytest
import torch

from model.data.transfer import transfer_to


@pytest.mark.parametrize(("asked", "current", "chosen"), [("cuda:1", 0, 1), ("cuda", 2, 2), ("cuda:0", 2, 0)])
def test_a_loader_thread_makes_the_asked_gpu_current(
    monkeypatch: pytest.MonkeyPatch, asked: str, current: int, chosen: int
) -> None:
    """A new thread's current device is GPU 0: "cuda" is the device of the thread that asked."""
    made: list[torch.device] = []
    streams: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(torch.cuda, "Stream", streams.append)
    transfer = transfer_to(torch.device(asked))
    transfer.begin_thread()
    assert transfer.pinned
    assert made == streams == [torch.device("cuda", chosen)]
