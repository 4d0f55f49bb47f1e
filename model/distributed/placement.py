"""The interface between training and the processes it runs on, and its form for a single process.

Training is written for one process; a placement gives it its part of the network and of each batch. A replica is a
whole network that sees its own share of the global batch. A column is the part of a network that one process holds.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from model.network.alexnet import AlexNet
from model.network.compiling import can_compile
from model.network.dropout import dropout_masks
from model.network.tables import Table

__all__ = ["OneProcess", "Placement"]


class Placement(Protocol):
    """The part of one process, and what the processes do together: all of them call the methods in the same order."""

    device: torch.device
    replica: int  # which share of the global batch this process sees
    replicas: int
    columns: int  # processes that share one network: the loss of each is divided by it
    is_main: bool  # writes the files and prints
    compiled: bool  # whether `network` gives one that torch.compile runs

    def network(self, table: Table, classes: int) -> AlexNet:
        """Return this process's part of the network, on `device`, its weights not yet set. Called once."""

    def rows(self, batch: int) -> slice:
        """Which images of a global batch of `batch` this process sees."""

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """Dropout masks of a step for the images and the units of this process; batch: images of the global batch."""

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut this process's part out of tensors of the whole network (parameters, momentum buffers), by name."""

    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put the parts of all processes together: tensors of the whole network, by name, on the CPU and contiguous.

        Empty on every process but the main one.
        """

    def average_gradients(self) -> None:
        """Replace each `.grad` of the network by its mean over the replicas. Called once after each backward pass."""

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small float64 tensor over the replicas, the same on every process."""

    def gather_objects(self, mine: object) -> list[Any]:
        """Return what every process gave, in the order of ranks, on every process. It must pickle."""

    def highest(self, request: int) -> int:
        """Return the highest request (0: none) that any process made in this call or in an earlier one.

        No process waits for another, so an answer may come some calls late; all get the same answer in the same call.
        """


class OneProcess:
    """One process that holds the whole network and sees the whole batch."""

    replica, replicas, columns, is_main = 0, 1, 1, True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The compiler may choose a reduction's form by timing it.
        repeatable = torch.are_deterministic_algorithms_enabled()
        self.compiled = device.type == "cuda" and not repeatable and can_compile(device)

    def network(self, table: Table, classes: int) -> AlexNet:
        """The whole network, channels last; compiled on a GPU, where that works."""
        network = AlexNet(table, classes).to(self.device).to(memory_format=torch.channels_last)
        if self.compiled:
            network.compile()
        return network

    def rows(self, batch: int) -> slice:
        """All of them."""
        return slice(0, batch)

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """For every image and every unit."""
        rows, columns = self.rows(batch), range(table.columns)
        return dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All of `whole`."""
        return dict(whole)

    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy, so that training can continue while it is written."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in mine.items()}

    def average_gradients(self) -> None:
        """Nothing to do: one replica is its own mean."""

    def total(self, values: Tensor) -> Tensor:
        """`values`: one replica is its own sum."""
        return values

    def gather_objects(self, mine: object) -> list[Any]:
        """`mine` alone."""
        return [mine]

    def highest(self, request: int) -> int:
        """`request`: there is no other process."""
        return request
