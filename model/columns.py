"""One column per process: the only file that imports torch.distributed.

The network is written for one process; here it is given its exchange. All columns of a replica see the same images
and end with the same logits; the objective is the sum over the processes, so each takes its loss / columns, and what
every column fed back to an activation is summed at its owner. Weights and their gradients stay where they are; only
replicas average theirs.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from model.alexnet import AlexNet, Table, keep
from model.layout import Layout, Misplaced, Parallel, lay_out
from model.placement import OneProcess, Placement

__all__ = ["Columns", "Exchange", "join"]

BUCKET = 32 * 2**20  # bytes of gradients averaged by one collective
PATIENCE = timedelta(minutes=30)  # a process silent for longer is lost


class Exchange:
    """AlexNet's `exchange` among the processes of `group`: an all-gather of channels whose gradient is summed.

    sent: (edge, "forward" | "backward") -> bytes that this process has sent, counted as they are handed over.
    """

    def __init__(self, group: dist.ProcessGroup, classes: int, sent: Counter[tuple[str, str]]) -> None:
        self.group = group
        self.classes = split_sizes(classes, group.size())
        self.sent = sent

    def __call__(self, x: Tensor, edge: str) -> Tensor:
        """(B, C of this process, ...) -> (B, C of all, ...) in rank order."""
        if edge != "logits" or len(set(self.classes)) == 1:
            return self.gather(x, edge, dim=1)
        widest = max(self.classes)  # collectives want equal parts: the narrower ones travel padded
        parts = self.gather(F.pad(x, (0, widest - x.shape[1])), edge, dim=1).chunk(len(self.classes), dim=1)
        return torch.cat([part[:, :width] for part, width in zip(parts, self.classes, strict=True)], dim=1)

    def gather(self, x: Tensor, edge: str, dim: int) -> Tensor:
        """Every process's x, of equal shapes, side by side along `dim`."""

        def count(way: str, size: int) -> None:
            self.sent[edge, way] += size

        gathered: Tensor = _Gather.apply(x, dim, self.group, count)
        return gathered


class _Gather(torch.autograd.Function):
    """All-gather along a dimension. Backward is its transpose: to each process the gradient of what it gave, summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup, count: Callable[[str, int], None]) -> Tensor:
        ctx.dim, ctx.group, ctx.count = dim, group, count
        wire = x.movedim(1, -1).contiguous()  # channels_last maps travel as they lie in memory
        parts = wire.new_empty((group.size() * wire.shape[0], *wire.shape[1:]))
        dist.all_gather_single(parts, wire, group=group)
        count("forward", wire.nbytes * (group.size() - 1))
        return torch.cat([part.movedim(-1, 1) for part in parts.chunk(group.size())], dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        # A reduce-scatter, spelled as what it must send at least: gloo's own sends a whole all-reduce, twice as much.
        wire = torch.stack([part.movedim(1, -1) for part in gradients[0].chunk(ctx.group.size(), ctx.dim)])
        received = torch.empty_like(wire)
        dist.all_to_all_single(received, wire, group=ctx.group)
        ctx.count("backward", wire[0].nbytes * (ctx.group.size() - 1))
        return received.sum(0).movedim(-1, 1), None, None, None


class Columns:
    """The placement of one of several processes: DeviceMesh("replica", "column"), so 2 N processes are N replicas of
    the paper's pair. With one column a replica it is plain data parallelism.

    sent: (edge, "forward" | "backward") -> bytes that this process has sent to its columns.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        mesh = init_device_mesh(device.type, (layout.replicas, layout.columns), mesh_dim_names=("replica", "column"))
        self.device, self.replicas, self.columns = device, layout.replicas, layout.columns
        self.replica, self.column = mesh.get_local_rank("replica"), mesh.get_local_rank("column")
        self.is_main = dist.get_rank() == 0
        self.sent: Counter[tuple[str, str]] = Counter()
        self._across_replicas, self._across_columns = mesh.get_group("replica"), mesh.get_group("column")
        self._asked: tuple[Tensor, dist.Work] | None = None

    def network(self, table: Table, classes: int) -> AlexNet:
        """The columns that live here. Raises Misplaced when there are fewer classes than columns."""
        if classes < self.columns:
            raise Misplaced(f"{classes} classes do not divide among {self.columns} columns")
        mine = split_sizes(classes, self.columns)[self.column]
        exchange = Exchange(self._across_columns, classes, self.sent) if self.columns > 1 else keep
        network = AlexNet(table, mine, columns=table.columns // self.columns, exchange=exchange)
        return network.to(self.device).to(memory_format=torch.channels_last)

    def held(self, table: Table) -> Sequence[int]:
        """This column; every one where a replica is one process."""
        return range(table.columns) if self.columns == 1 else (self.column,)

    def share(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of this column's part: a slice of the first dimension, as every parameter of a column is."""
        return {name: tensor.tensor_split(self.columns)[self.column].clone() for name, tensor in whole.items()}

    @torch.no_grad()
    def gather(self, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The columns of replica 0 under each other, on the CPU of the main process; elsewhere nothing."""
        return _merge(mine, self._across_columns) if self.replica == 0 else {}

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Over the replicas of this column, a bucket at a time while the next is packed."""
        if self.replicas > 1:
            _average([p.grad for p in parameters if p.grad is not None], self._across_replicas)

    def total(self, values: Tensor) -> Tensor:
        """Over the replicas; columns of one replica hold the same values."""
        values = values.clone()
        dist.all_reduce(values, group=self._across_replicas)
        return values

    def any(self, flag: bool) -> bool:
        """The answer to the call before: nobody waits for this one, every process hears the same."""
        answer = False
        if self._asked is not None:
            told, work = self._asked
            work.wait()
            answer = bool(told)
        told = torch.tensor(int(flag))
        self._asked = told, dist.all_reduce(told, dist.ReduceOp.MAX, async_op=True)
        return answer

    def barrier(self) -> None:
        """Wait for every process."""
        dist.barrier()


def split_sizes(total: int, parts: int) -> list[int]:
    """Lengths of torch.tensor_split's parts: 7 over 2 is 4 and 3."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def _merge(mine: Mapping[str, Tensor], group: dist.ProcessGroup) -> dict[str, Tensor]:
    """Everyone's rows in rank order, on the first process of `group`; {} on the others."""
    here = torch.tensor([tensor.shape[0] for tensor in mine.values()])
    rows = here.new_empty(group.size() * len(mine))
    dist.all_gather_single(rows, here, group=group)
    whole = {}
    for (name, tensor), counts in zip(mine.items(), rows.view(-1, len(mine)).T.tolist(), strict=True):
        padded = torch.zeros((max(counts), *tensor.shape[1:]), dtype=tensor.dtype)
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in counts] if group.rank() == 0 else None
        dist.gather(padded, parts, group=group, group_dst=0)
        if parts:
            whole[name] = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole


def _average(gradients: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """Replace each by its mean over `group`."""
    ends = torch.tensor([gradient.nbytes for gradient in gradients]).cumsum(0).tolist()
    sent = []
    for _, bucket in groupby(zip(gradients, ends, strict=True), key=lambda pair: pair[1] // BUCKET):
        members = [gradient for gradient, _ in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in members])
        sent.append((members, flat, dist.all_reduce(flat, group=group, async_op=True)))
    for members, flat, work in sent:
        work.wait()
        flat.div_(group.size())
        for gradient in members:
            mean, flat = flat.tensor_split([gradient.numel()])
            gradient.copy_(mean.view(gradient.shape))


@contextmanager
def join(
    parallel: Parallel,
    *,
    table: Table,
    batch: int,
    device: torch.device,
    settings: Mapping[str, object],
    tell: Callable[[str], None],
) -> Iterator[Placement]:
    """Take this process's place among those that torchrun started; alone, the whole of it.

    batch: images of the global batch. device: "cpu", or "cuda" for one GPU per process. settings: what every process
    must have been given alike. tell: hears on the main process which layout was chosen, and why.
    Raises Misplaced on the main process; the others leave with exit code 2 and say nothing.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        layout = lay_out(parallel, processes, table, batch)
        if processes > 1:
            device = _meet(device)
            _agree(settings)
    except Misplaced:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(2) from None
        raise
    if processes == 1:
        yield OneProcess(device)
        return
    placement = Columns(layout, device)
    if placement.is_main:
        tell(layout.why)
    yield placement
    dist.destroy_process_group()


def _meet(device: torch.device) -> torch.device:
    """Join the process group; this process's device. Tensors on the CPU always go by gloo, those on GPUs by NCCL."""
    if device.type == "cuda":
        here = int(os.environ.get("LOCAL_RANK", "0"))
        if here >= torch.cuda.device_count():
            raise Misplaced(f"process {here} of this machine has no GPU of its own: {torch.cuda.device_count()} here")
        device = torch.device("cuda", here)
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except dist.DistNetworkError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise Misplaced(f"cannot meet at {address}, is the port taken? {str(error).splitlines()[0]}") from error
    return device


def _agree(settings: Mapping[str, object]) -> None:
    """Raise Misplaced, on every process, when one was given other settings."""
    mine = {name: repr(value) for name, value in settings.items()}
    all_of_them: list[dict[str, str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(all_of_them, mine)
    for rank, theirs in enumerate(all_of_them):
        for name, value in all_of_them[0].items():
            if theirs.get(name) != value:
                raise Misplaced(f"process {rank} was given {name}={theirs.get(name)}, process 0 {name}={value}")
