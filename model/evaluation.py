"""Top-1, top-5 and loss, from one view or ten, of one network or the mean of several.

Ties are shared as the 2012 code shares them: a label that ties with others for the last places counts as the chance
that a fair draw would pick it. Every figure comes with its 95 % interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import BadCheckpoint, Checkpoint
from model.data.class_names import people_names
from model.data.loader import Dataset, in_order
from model.data.packed import BadDataset, PackedSet

__all__ = ["Figure", "Scores", "Tally", "as_json", "check_fit", "check_size", "credit", "evaluate", "table"]

Z = 1.959964  # standard normal quantile of a two-sided 95 % interval
SMALLEST = float(np.finfo(np.float32).tiny)  # a probability below it counts as this one: a loss of 87, not infinity
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (B, S, S, 3) -> probabilities (B, classes)


class Network(Protocol):
    """What is evaluated: an Embedder, or something with its methods."""

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, S, S, 3) -> probabilities (B, classes) from the central crop, and features."""

    def ten_views(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) -> probabilities (B, classes), the mean over ten views."""


@dataclass(frozen=True)
class Figure:
    """A measured number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """The figures of `images` images."""

    images: int
    top1: Figure  # share of images whose most probable class is the label
    top5: Figure  # share whose label is among the five (or all, where there are fewer) most probable
    loss: Figure  # mean of -ln(probability of the label)

    @property
    def error(self) -> float:
        """Top-1 error, which the `plateau` schedule follows."""
        return 1 - self.top1.value


class Tally:
    """Sums over images, float64 (5,): images, top-1, top-5, loss, squared loss; sums of several add up."""

    def __init__(self) -> None:
        self.sums = torch.zeros(5, dtype=torch.float64)

    def add(self, probabilities: Tensor, labels: Tensor) -> None:
        """Count (B, classes) float predictions for int64 (B,) labels, on any device."""
        loss = -_of_label(probabilities, labels).double().clamp(min=SMALLEST).log()
        counts = [credit(probabilities, labels, 1), credit(probabilities, labels, 5), loss, loss.square()]
        self.sums += torch.stack([torch.ones_like(loss), *counts]).sum(dim=1).cpu()

    def scores(self) -> Scores:
        """Return the figures. Raises BadDataset when nothing was counted."""
        images, top1, top5, loss, squares = self.sums.tolist()
        if not images:
            raise BadDataset("there is no labelled image to evaluate on")
        mean = loss / images
        reach = Z * sqrt(max(squares / images - mean**2, 0.0) / images)
        return Scores(
            images=int(images),
            top1=wilson(top1, images),
            top5=wilson(top5, images),
            loss=Figure(mean, mean - reach, mean + reach),
        )


def credit(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return how much of each row's label is among the k highest scores, ties shared: float64 (B,), 0 to 1.

    With `above` classes better and `ties` equal (the label among them), the label takes (k - above) / ties of a place.
    A label whose score is NaN gets nothing.
    """
    own = _of_label(scores, labels)[:, None]
    above = (scores > own).sum(dim=1).double()
    ties = (scores == own).sum(dim=1).double()
    share = ((k - above) / ties.clamp(min=1)).clamp(0, 1)
    return torch.where(ties > 0, share, torch.zeros_like(share))


def wilson(hits: float, n: float) -> Figure:
    """Return a share and its 95 % Wilson score interval, which holds at 0 and 1, too."""
    share = hits / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Figure(share, max(0.0, min(centre - reach, share)), min(1.0, max(centre + reach, share)))


def evaluate(
    networks: Mapping[str, Network],
    split: Dataset,
    views: Sequence[int] = (1, 10),
    *,
    batch: int = 512,
    report: Callable[[str, int, int], None] | None = None,
) -> dict[int, dict[str, Scores]]:
    """Return scores by number of views (1 or 10) and network, and of "mean", their average, where there are several.

    The mean is of probabilities (section 5's "5 CNNs"). Rows without a label are left out. report is called with
    ("evaluate", images done, images in all), all views together. Raises BadDataset when nothing has a label.
    """
    known = np.flatnonzero(split.labels >= 0)
    results: dict[int, dict[str, Scores]] = {}
    done, total = 0, len(known) * len(views)
    for count in views:
        tallies = {name: Tally() for name in [*networks, *(["mean"] if len(networks) > 1 else [])]}
        for rows in in_order(len(known), batch):
            images, labels = split.images(known[rows]), torch.from_numpy(split.labels[known[rows]])
            each = {name: torch.from_numpy(_predictor(one, count)(images)) for name, one in networks.items()}
            each["mean"] = torch.stack(list(each.values())).double().mean(dim=0)
            for name, tally in tallies.items():
                tally.add(each[name], labels)
            done += len(rows)
            if report is not None:
                report("evaluate", done, total)
        results[count] = {name: tally.scores() for name, tally in tallies.items()}
    return results


def check_size(name: str, checkpoint: Checkpoint, packed: PackedSet) -> None:
    """Raise BadCheckpoint for a network that reads images of another size than the dataset's."""
    if checkpoint.recipe.stored != packed.size:
        raise BadCheckpoint(
            f"{name} reads images of {checkpoint.recipe.stored} pixels, {packed.path} has {packed.size}"
        )


def check_fit(checkpoints: Mapping[str, Checkpoint], packed: PackedSet) -> None:
    """Raise BadCheckpoint for a network that reads other images or has other classes than the dataset."""
    for name, checkpoint in checkpoints.items():
        check_size(name, checkpoint, packed)
        own, given = (
            people_names(checkpoint.classes),
            people_names(packed.classes),
        )  # datasets were once packed with ids
        if own != given:
            pairs = enumerate(zip(own, given, strict=False))
            first = next((f": class {n} is {ours!r}, there {its!r}" for n, (ours, its) in pairs if ours != its), "")
            raise BadCheckpoint(f"{name} tells {len(own)} classes apart, not the {len(given)} of {packed.path}{first}")


def table(results: Mapping[int, Mapping[str, Scores]]) -> str:
    """Return the results as lines of text, one for each number of views and network."""
    names = {name for scores in results.values() for name in scores}
    width = max(len("network"), *(len(name) for name in names))
    lines = [f"{'network':<{width}}  views  top-1 % (95 %)         top-5 % (95 %)         loss (95 %)           images"]
    for views, scores in results.items():
        for name, one in scores.items():
            top1, top5 = (f"{100 * f.value:6.2f} ({100 * f.low:.2f}-{100 * f.high:.2f})" for f in (one.top1, one.top5))
            loss = f"{one.loss.value:.4f} ({one.loss.low:.4f}-{one.loss.high:.4f})"
            lines.append(f"{name:<{width}}  {views:>5}  {top1:<21}  {top5:<21}  {loss:<22} {one.images:>5}")
    return "\n".join(lines)


def as_json(results: Mapping[int, Mapping[str, Scores]]) -> list[dict[str, Any]]:
    """Return the results as plain data, a row for each number of views and network."""
    return [
        {"network": name, "views": views, **asdict(scores)}
        for views, of_views in results.items()
        for name, scores in of_views.items()
    ]


def _predictor(network: Network, views: int) -> Predict:
    if views == 10:
        return network.ten_views
    return lambda images: network(images)[0]


def _of_label(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(1, labels[:, None])[:, 0]
