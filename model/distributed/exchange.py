"""What the network calls where its columns meet: collectives that autograd can differentiate."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ColumnExchange", "HybridExchange", "split_sizes"]


class ColumnExchange:
    """AlexNet's `exchange` between the columns of `group`: an all-gather of channels.

    In the backward pass each process gets the sum of what all of them send back for its own channels.
    classes: outputs of fc8 of the whole network; they may not divide evenly among the columns.
    sent: (edge, "forward" | "backward") -> bytes that this process has sent; counted here.
    """

    def __init__(self, group: dist.ProcessGroup, classes: int, sent: Counter[tuple[str, str]]) -> None:
        self.group = group
        self.classes = split_sizes(classes, group.size())
        self.sent = sent

    def __call__(self, x: Tensor, edge: str) -> Tensor:
        """(B, C of this process, ...) -> (B, C of all, ...) in rank order. edge: the layer that reads it, or logits."""
        if edge != "logits" or len(set(self.classes)) == 1:
            return self.gather(x, edge, dim=1)
        widest = max(self.classes)  # a collective takes equal parts: narrower ones are padded
        parts = self.gather(F.pad(x, (0, widest - x.shape[1])), edge, dim=1).chunk(len(self.classes), dim=1)
        return torch.cat([part[:, :width] for part, width in zip(parts, self.classes, strict=True)], dim=1)

    def gather(self, x: Tensor, edge: str, dim: int) -> Tensor:
        """The x of all processes, of equal shapes, concatenated along `dim`."""

        def count(way: str, size: int) -> None:
            self.sent[edge, way] += size

        gathered: Tensor = _Gather.apply(x, dim, self.group, count)
        return gathered


class HybridExchange(ColumnExchange):
    """The exchange of processes that hold all convolutions, and a slice of each dense layer's units for all images."""

    def __call__(self, x: Tensor, edge: str) -> Tensor:
        """Before a convolution: x. Before the first dense layer: (B, C, H, W) -> (images of all processes, C, H, W).

        After it: (images of all processes, units of this one) -> (the same images, all units).
        """
        if edge.startswith("conv"):
            return x
        if x.ndim == 2:
            return super().__call__(x, edge)
        if not torch.is_grad_enabled():  # a validation batch may be one image shorter here than elsewhere
            x = F.pad(x, (0, 0) * 3 + (0, self._most(x.shape[0]) - x.shape[0]))
        return self.gather(x, edge, dim=0)

    def own(self, all_of_them: Tensor, images: int) -> Tensor:
        """This process's rows, `images` of them, out of those of all processes."""
        return all_of_them.chunk(self.group.size())[self.group.rank()][:images]

    def _most(self, images: int) -> int:
        most = torch.tensor(images)
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.group)
        return int(most)


class _Gather(torch.autograd.Function):
    """All-gather along a dimension. Backward is the transpose: each process gets the summed gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup, count: Callable[[str, int], None]) -> Tensor:
        ctx.dim, ctx.group, ctx.count = dim, group, count
        outgoing = x.movedim(1, -1).contiguous()  # channels_last maps are sent without a copy
        parts = [torch.empty_like(outgoing) for _ in range(group.size())]
        dist.all_gather(parts, outgoing, group=group)  # into one tensor: no name in all supported releases
        count("forward", outgoing.nbytes * (group.size() - 1))
        return torch.cat([part.movedim(-1, 1) for part in parts], dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        # A reduce-scatter as an all-to-all and a sum: gloo's own reduce-scatter sends twice as much.
        outgoing = torch.stack([part.movedim(1, -1) for part in gradients[0].chunk(ctx.group.size(), ctx.dim)])
        received = torch.empty_like(outgoing)
        dist.all_to_all_single(received, outgoing, group=ctx.group)
        ctx.count("backward", outgoing[0].nbytes * (ctx.group.size() - 1))
        return received.sum(0).movedim(-1, 1), None, None, None


def split_sizes(total: int, parts: int) -> list[int]:
    """Return the lengths of the parts that torch.tensor_split makes: 7 in 2 parts is [4, 3]."""
    return [total // parts + (part < total % parts) for part in range(parts)]
