"""The placement of one of several processes: which part of the network and of the images it has.

The network is written for one process; here it gets an exchange that fetches the other columns' activations. All
columns of a replica see the same images and compute the same logits. The objective is the sum over the processes, so
each process divides its loss by the number of columns; the exchange sums what the columns send back to an activation.
Weights and their gradients never travel between columns; replicas average their gradients.
"""

import gc
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from model.distributed.exchange import ColumnExchange, HybridExchange, split_sizes
from model.distributed.gradients import GradientAverager
from model.distributed.layout import Layout
from model.network.alexnet import AlexNet, identity
from model.network.dropout import dropout_masks
from model.network.tables import Table

__all__ = ["Columns", "Hybrid"]


class Columns:
    """A DeviceMesh("replica", "column") of processes: 2 N of them are N replicas of the paper's pair of columns.

    With one column per replica this is plain data parallelism.
    sent: (edge, "forward" | "backward") -> bytes that this process has sent to the other columns.
    """

    compiled = False

    def __init__(self, layout: Layout, device: torch.device) -> None:
        mesh = init_device_mesh(device.type, (layout.replicas, layout.columns), mesh_dim_names=("replica", "column"))
        self.device, self.replicas, self.columns = device, layout.replicas, layout.columns
        self.replica, self.column = mesh.get_local_rank("replica"), mesh.get_local_rank("column")
        self.is_main = dist.get_rank() == 0
        self.sent: Counter[tuple[str, str]] = Counter()
        self._across_replicas, self._across_columns = mesh.get_group("replica"), mesh.get_group("column")
        self._asked: tuple[Tensor, dist.Work] | None = None
        self._averager: GradientAverager | None = None

    def network(self, table: Table, classes: int) -> AlexNet:
        """The column of this process, or all columns where a replica is one process."""
        mine = split_sizes(classes, self.columns)[self.column]
        exchange = ColumnExchange(self._across_columns, classes, self.sent) if self.columns > 1 else identity
        network = AlexNet(table, mine, columns=table.columns // self.columns, exchange=exchange)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        if self.replicas > 1:
            self._averager = GradientAverager(network.parameters(), self._across_replicas)
        return network

    def rows(self, batch: int) -> slice:
        """The share of this replica; all columns of a replica see the same images."""
        share = batch // self.replicas
        return slice(self.replica * share, (self.replica + 1) * share)

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """For the images of this replica and the units of this column."""
        rows = self.rows(batch)
        columns = range(table.columns) if self.columns == 1 else (self.column,)
        return dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of this column's slice of the first dimension: a column's part of every parameter is such a slice."""
        return {name: tensor.tensor_split(self.columns)[self.column].clone() for name, tensor in whole.items()}

    @torch.no_grad()
    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The columns of replica 0, concatenated along the first dimension, on the main process."""
        return _merge(mine, self._across_columns) if self.replica == 0 else {}

    def average_gradients(self) -> None:
        """Over the replicas of this column. The collectives were started during the backward pass."""
        if self._averager is not None:
            self._averager.finish()

    def total(self, values: Tensor) -> Tensor:
        """Over the replicas only: the columns of one replica hold the same values."""
        values = values.clone()
        dist.all_reduce(values, group=self._across_replicas)
        return values

    def gather_objects(self, mine: object) -> list[Any]:
        """Over all processes, columns included."""
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
        return everyone

    def highest(self, request: int) -> int:
        """The highest request of the previous call: this call's all-reduce runs until the next one."""
        answer = 0
        if self._asked is not None:
            highest, work = self._asked
            work.wait()
            answer = int(highest)
        highest = torch.tensor(request)
        self._asked = highest, dist.all_reduce(highest, dist.ReduceOp.MAX, async_op=True)
        return answer

    def leave(self, *, failed: bool) -> None:
        """Let go of the groups of replicas and columns, so that this process can leave. No method works afterwards.

        failed: NCCL's collectives in flight are dropped. Leaving waits for them, and so for processes that may be gone.
        A group that is still referred to when the process ends can take it down with SIGABRT (gloo, torch 2.14).
        """
        if failed and self.device.type == "cuda":
            for group in (self._across_replicas, self._across_columns, dist.group.WORLD):
                if group is not None:
                    group.abort()
        del self._across_replicas, self._across_columns, self._asked, self._averager
        gc.collect()  # the mesh, and a network with its exchange, refer to their groups in cycles


class Hybrid(Columns):
    """The scheme of "One weird trick" (Krizhevsky 2014), form (a): only the dense layers are divided.

    Every process runs its own images through all convolutions. Before the first dense layer the processes gather the
    activations of all images; then each computes its slice of the units for all of them. So the gradient of a slice is
    complete on its process.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        super().__init__(layout, device)
        self._slices: list[Tensor] = []  # the parameters of the dense layers

    def network(self, table: Table, classes: int) -> AlexNet:
        """All convolutions, a slice of each dense layer."""
        mine = split_sizes(classes, self.replicas)[self.replica]
        exchange = HybridExchange(self._across_replicas, classes, self.sent)
        network = AlexNet(table, mine, slices=self.replicas, exchange=exchange)
        network.register_forward_hook(lambda _, given, out: tuple(exchange.own(x, len(given[0])) for x in out))
        network = network.to(self.device).to(memory_format=torch.channels_last)
        parameters = dict(network.named_parameters())
        self._slices = [parameter for name, parameter in parameters.items() if _is_dense(name)]
        convolutions = [parameter for name, parameter in parameters.items() if not _is_dense(name)]
        self._averager = GradientAverager(convolutions, self._across_replicas)
        return network

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """For every image of the batch and the units of this slice."""
        rows, columns = slice(0, batch), range(table.columns)
        masks = dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)
        return {name: mask.tensor_split(self.replicas, dim=1)[self.replica] for name, mask in masks.items()}

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of all convolutions and of this process's rows of each dense layer."""
        return {
            name: (tensor.tensor_split(self.replicas)[self.replica] if _is_dense(name) else tensor).clone()
            for name, tensor in whole.items()
        }

    @torch.no_grad()
    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The convolutions of the main process and the slices of all, on the main process."""
        dense = _merge({name: tensor for name, tensor in mine.items() if _is_dense(name)}, self._across_replicas)
        if not self.is_main:
            return {}
        return {
            name: dense[name] if _is_dense(name) else tensor.to("cpu", copy=True).contiguous()
            for name, tensor in mine.items()
        }

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Average the convolutions. A slice holds the sum over the processes' losses already, so it is divided."""
        super().average_gradients()
        for parameter in self._slices:
            if parameter.grad is not None:
                parameter.grad /= self.replicas


def _is_dense(name: str) -> bool:
    return name.startswith("fc")


def _merge(mine: Mapping[str, Tensor], group: dist.ProcessGroup) -> dict[str, Tensor]:
    """The rows of all processes in rank order, on the first process of `group`; {} on the others."""
    here = torch.tensor([tensor.shape[0] for tensor in mine.values()], dtype=torch.int64)
    rows = [torch.empty_like(here) for _ in range(group.size())]
    dist.all_gather(rows, here, group=group)
    whole = {}
    for (name, tensor), counts in zip(mine.items(), torch.stack(rows, dim=1).tolist(), strict=True):
        padded = torch.zeros((max(counts), *tensor.shape[1:]), dtype=tensor.dtype)
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in counts] if group.rank() == 0 else None
        dist.gather(padded, parts, group=group, group_dst=0)
        if parts:
            whole[name] = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole
