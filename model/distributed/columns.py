"""One column per process: this process's part of the network, of the images, and of what all do together.

The network is written for one process; here it is given its exchange. All columns of a replica see the same images
and end with the same logits; the objective is the sum over the processes, so each takes its loss / columns, and what
every column fed back to an activation is summed at its owner. Weights and their gradients stay where they are; only
replicas average theirs.
"""

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
    """The placement of one of several processes: DeviceMesh("replica", "column"), so 2 N processes are N replicas of
    the paper's pair. With one column a replica it is plain data parallelism.

    sent: (edge, "forward" | "backward") -> bytes that this process has sent to its columns.
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
        """The columns that live here."""
        mine = split_sizes(classes, self.columns)[self.column]
        exchange = ColumnExchange(self._across_columns, classes, self.sent) if self.columns > 1 else identity
        network = AlexNet(table, mine, columns=table.columns // self.columns, exchange=exchange)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        if self.replicas > 1:
            self._averager = GradientAverager(network.parameters(), self._across_replicas)
        return network

    def masks(self, table: Table, *, seed: int, step: int, batch: int) -> dict[str, Tensor]:
        """Of this replica's images and this column's units."""
        share = batch // self.replicas
        rows = slice(self.replica * share, (self.replica + 1) * share)
        columns = range(table.columns) if self.columns == 1 else (self.column,)
        return dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of this column's part: a slice of the first dimension, as every parameter of a column is."""
        return {name: tensor.tensor_split(self.columns)[self.column].clone() for name, tensor in whole.items()}

    @torch.no_grad()
    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The columns of replica 0 under each other, on the CPU of the main process; elsewhere nothing."""
        return _merge(mine, self._across_columns) if self.replica == 0 else {}

    def average_gradients(self) -> None:
        """Over the replicas of this column; the collectives have been running since the backward pass."""
        if self._averager is not None:
            self._averager.finish()

    def total(self, values: Tensor) -> Tensor:
        """Over the replicas; columns of one replica hold the same values."""
        values = values.clone()
        dist.all_reduce(values, group=self._across_replicas)
        return values

    def gather_objects(self, mine: object) -> list[Any]:
        """Over all processes."""
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
        return everyone

    def highest(self, request: int) -> int:
        """That of the previous call: the all-reduce is asynchronous, and every process hears the same."""
        answer = 0
        if self._asked is not None:
            highest, work = self._asked
            work.wait()
            answer = int(highest)
        highest = torch.tensor(request)
        self._asked = highest, dist.all_reduce(highest, dist.ReduceOp.MAX, async_op=True)
        return answer

    def barrier(self) -> None:
        """Wait for every process."""
        dist.barrier()

    def abort(self) -> None:
        """Drop every collective in flight: leaving the groups would wait for them, and for processes that are gone."""
        for group in (self._across_replicas, self._across_columns, dist.group.WORLD):
            if group is not None:
                group.abort()


class Hybrid(Columns):
    """The scheme of "One weird trick" (Krizhevsky 2014), its form (a): only the dense layers are cut.

    Every process feeds its own images through all convolutions, gathers what all of them have at the first dense
    layer, and computes its slice of units for the images of all. A dense layer's gradient is then whole where it is.
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
        """Of every image and this slice's units."""
        rows, columns = slice(0, batch), range(table.columns)
        masks = dropout_masks(table, seed=seed, step=step, batch=batch, rows=rows, columns=columns, device=self.device)
        return {name: mask.tensor_split(self.replicas, dim=1)[self.replica] for name, mask in masks.items()}

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convolutions whole, of dense layers this process's rows."""
        return {
            name: (tensor.tensor_split(self.replicas)[self.replica] if _is_dense(name) else tensor).clone()
            for name, tensor in whole.items()
        }

    @torch.no_grad()
    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's convolutions and everyone's slices, on the main process; elsewhere nothing."""
        dense = _merge({name: tensor for name, tensor in mine.items() if _is_dense(name)}, self._across_replicas)
        if not self.is_main:
            return {}
        return {
            name: dense[name] if _is_dense(name) else tensor.to("cpu", copy=True).contiguous()
            for name, tensor in mine.items()
        }

    @torch.no_grad()
    def average_gradients(self) -> None:
        """Convolutions over the processes; a slice has the sum over all images already, from each process's loss."""
        super().average_gradients()
        for parameter in self._slices:
            if parameter.grad is not None:
                parameter.grad /= self.replicas


def _is_dense(name: str) -> bool:
    return name.startswith("fc")


def _merge(mine: Mapping[str, Tensor], group: dist.ProcessGroup) -> dict[str, Tensor]:
    """Everyone's rows in rank order, on the first process of `group`; {} on the others."""
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
