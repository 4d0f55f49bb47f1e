"""The records of a run for people: log.jsonl, TensorBoard events, the kernels of Figure 3, learning curves as a PNG."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import files
from model.train.callbacks import Epoch
from model.train.schedule import Rates
from model.train.state import BadRun

__all__ = ["RunLog", "curves", "kernels"]

SCALAR_EVERY = 50  # steps between two training losses in TensorBoard
PIXEL = {11: 4}  # screen pixels a kernel pixel: about 48 a kernel


class RunLog:
    """A Callback that writes them. The line of an epoch is on disk before the state that follows it.

    `begin` and `epoch` raise BadRun for what the disk does not take.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder, self.header = folder, header
        self.path = folder / "log.jsonl"
        self.events: Any = None

    def begin(self, steps: int, done: int, batch: int) -> None:
        """Drop the lines after step `done`: a killed run may have logged more than it saved."""
        from torch.utils.tensorboard import SummaryWriter  # takes seconds, and is needed only here

        with files.translated(self.path, BadRun, BadRun):
            files.make_folder(self.folder)
            kept = [line for line in epochs(self.path) if line["step"] <= done]
            header = {"kind": "run", "steps": steps, "batch": batch, **self.header}
            files.replace(self.path, "".join(json.dumps(line) + "\n" for line in [header, *kept]).encode())
            self.events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=done)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        """Write the training loss and the rate every SCALAR_EVERY steps."""
        if done % SCALAR_EVERY == 0:
            self.events.add_scalar("loss/step", loss, done)
            self.events.add_scalar("rate", rates.weights, done)

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        """Write the line, the scalars and the kernels."""
        with files.translated(self.path, BadRun, BadRun), self.path.open("a") as file:
            file.write(json.dumps({"kind": "epoch", **asdict(epoch)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        figures = {
            "loss/training": epoch.loss,
            "loss/validation": epoch.scores.loss.value,
            "top-1": epoch.scores.top1.value,
            "top-5": epoch.scores.top5.value,
            "images a second": epoch.images_per_second,
            "share of time waiting for data": epoch.waiting,
        }
        for name, value in figures.items():
            self.events.add_scalar(name, value, epoch.step)
        self.events.add_image("conv1 (Figure 3)", kernels(conv1), epoch.step, dataformats="HWC")
        self.events.flush()

    def end(self, finished: bool) -> None:
        """Close the events; draw the curves of a finished run."""
        self.events.close()
        if finished and (lines := epochs(self.path)):
            curves(lines, self.folder / "curves.png")


def epochs(log: Path) -> list[dict[str, Any]]:
    """Return the epoch lines of a log.jsonl, without a torn last line. Raises BadRun, OSError."""
    try:
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [line for line in map(json.loads, lines) if line["kind"] == "epoch"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRun(
            f"{log}: not a run's log ({error!r}); the run goes on without it, once it is moved away"
        ) from error


def kernels(weights: Tensor) -> NDArray[np.uint8]:
    """Draw kernels (N, 3, k, k) as in Figure 3: uint8 (H, W, 3), 16 a row, one pixel between, one brightness range.

    With two columns of 48 kernels the first three rows are the first GPU's.
    """
    count, _, side, _ = weights.shape
    low, high = weights.min(), weights.max()
    tiles = ((weights - low) / (high - low).clamp(min=1e-12)).permute(0, 2, 3, 1)
    columns = min(16, count)
    rows = -(-count // columns)
    sheet = torch.ones(rows * (side + 1) - 1, columns * (side + 1) - 1, 3)
    for place, tile in enumerate(tiles):
        top, left = (side + 1) * (place // columns), (side + 1) * (place % columns)
        sheet[top : top + side, left : left + side] = tile
    scale = PIXEL.get(side, 8)
    image = (sheet * 255).round().to(torch.uint8).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return np.asarray(image.numpy())


def curves(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw losses and accuracies over the epochs, as a PNG."""
    from matplotlib.figure import Figure  # the font search of its first import takes seconds

    x = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    losses.plot(x, [line["loss"] for line in lines], "o-", label="training (dropout on)")
    losses.plot(x, [line["scores"]["loss"]["value"] for line in lines], "o-", label="validation")
    losses.set(xlabel="epoch", ylabel="loss")
    for name, label in (("top1", "top-1"), ("top5", "top-5")):
        figures = [line["scores"][name] for line in lines]
        accuracies.plot(x, [100 * one["value"] for one in figures], "o-", label=label)
        low, high = ([100 * one[end] for one in figures] for end in ("low", "high"))
        accuracies.fill_between(x, low, high, alpha=0.2)
    accuracies.set(xlabel="epoch", ylabel="validation accuracy, % (95 %)")
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
