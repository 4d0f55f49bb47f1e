"""Training runs of stripes in this process, and what a test asks of them."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.distributed.placement import OneProcess
from model.train.callbacks import Epoch
from model.train.loop import Trainer
from model.train.run_folder import RunFolder
from model.train.schedule import Rates
from model.train.state import State
from model.train.step import TrainingTask
from tests.model.train.tasks import fresh

__all__ = ["CPU", "STEPS", "Seen", "assert_same_bits", "saved", "trained"]

CPU = torch.device("cpu")
STEPS = 18  # of the task's run: 3 epochs of 6


class Seen:
    """A Callback that remembers, and asks to stop after a given step."""

    def __init__(self, stop_after: int = -1) -> None:
        self.losses: dict[int, float] = {}
        self.epochs: list[Epoch] = []
        self.begun: tuple[int, int, int] = (0, 0, 0)
        self.ended: bool | None = None
        self.stop_after = stop_after

    def begin(self, steps: int, done: int, batch: int) -> None:
        self.begun = (steps, done, batch)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        assert rates.weights > 0
        self.losses[done] = loss

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        assert conv1.shape == (8, 3, 3, 3)
        self.epochs.append(epoch)

    def end(self, finished: bool) -> None:
        self.ended = finished

    def stop(self) -> bool:
        return self.stop_after in self.losses


def trained(path: Path, of: TrainingTask, *, stop_after: int = -1, save_every: int = 4, resume: bool = False) -> Seen:
    """Run or go on, in this process."""
    folder = RunFolder(path, {"seed": of.seed})
    state = folder.begin(resume)
    callback = Seen(stop_after)
    trainer = Trainer(of, OneProcess(CPU), folder, state or fresh(of), {"data": "stripes"})

    def save_now() -> bool:
        return max(callback.losses) % save_every == 0

    finished = trainer.run(callback, save_now=save_now, stop=callback.stop)
    assert finished == callback.ended == folder.done()
    return callback


def saved(path: Path) -> State:
    state = RunFolder(path, {"seed": 0}).begin(resume=True)
    assert state is not None
    return state


def assert_same_bits(got: State, expected: State) -> None:
    assert replace(got.progress, seconds=0) == replace(expected.progress, seconds=0)
    for kind in ("weights", "momentum"):
        mine, theirs = getattr(got, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), f"{kind} {name}"
