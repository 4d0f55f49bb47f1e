"""Where a training process stands among others, so that training can be written for one process and spread from
outside.

A replica is a whole network that sees its own share of the global batch; a column is the part of a network that one
process holds. `OneProcess` is the whole of both; columns.py has the other one.
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
    """This process's place and what the processes do together. Every method is called by all of them, in one order."""

    device: torch.device
    replica: int  # which share of the global batch this process sees
    replicas: int
    columns: int  # processes that share one network: the loss of each is divided by it
    is_main: bool  # writes files and speaks
    compiled: bool  # whether `network` gives one that torch.compile runs

    def network(self, table: Table, classes: int) -> AlexNet:
        """The part of the network that lives here, on `device`, its weights not yet set."""

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """Dropout masks of a step for the images and the units of this process; `batch` is the global one's size."""

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of tensors in the one-device form (parameters, momentum buffers), by parameter name."""

    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The one-device form of every process's part, on the CPU and contiguous; empty where not `is_main`."""

    def average_gradients(self) -> None:
        """Replace each `.grad` of the network by its mean over the replicas. Called once after each backward pass."""

    def total(self, values: Tensor) -> Tensor:
        """Sum of a small float64 tensor over the replicas, the same on every process."""

    def gather_objects(self, mine: object) -> list[Any]:
        """What every process gave, in the order of ranks, on every process. It must pickle."""

    def highest(self, request: int) -> int:
        """The highest request (0: none) of any process. Nobody waits for it: it may come some calls late, everywhere in
        the same one."""

    def barrier(self) -> None:
        """Wait for every process."""


class OneProcess:
    """One process that holds the whole network and sees the whole batch."""

    replica, replicas, columns, is_main = 0, 1, 1, True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The compiler may choose a reduction's form by timing it.
        repeatable = torch.are_deterministic_algorithms_enabled()
        self.compiled = device.type == "cuda" and not repeatable and can_compile(device)

    def network(self, table: Table, classes: int) -> AlexNet:
        """All of it, in the memory order that convolutions are fastest in; compiled on a GPU, where that works."""
        network = AlexNet(table, classes).to(self.device).to(memory_format=torch.channels_last)
        if self.compiled:
            network.compile()
        return network

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """Of every image and every unit."""
        rows, columns = slice(0, batch), range(table.columns)
        return dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Everything."""
        return dict(whole)

    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy, so that training may go on while it is written."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in mine.items()}

    def average_gradients(self) -> None:
        """One replica is its own mean."""

    def total(self, values: Tensor) -> Tensor:
        """One replica is its own sum."""
        return values

    def gather_objects(self, mine: object) -> list[Any]:
        """This process's alone."""
        return [mine]

    def highest(self, request: int) -> int:
        """This process is all there is."""
        return request

    def barrier(self) -> None:
        """Nobody to wait for."""
