"""Average gradients over processes while the backward pass still runs.

The dense layers hold 96 % of the weights and come first in the backward pass. So most gradients are sent while the
convolutions, which are most of the arithmetic, are still being computed.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["GradientAverager"]

BUCKET = 32 * 2**20  # bytes of gradients that start a collective


class GradientAverager:
    """Averages the gradients of `parameters` over the processes of `group`, one backward pass at a time.

    Gradients are packed into buckets in the order in which autograd finishes them. The all-reduce of a full bucket
    starts at once; only `finish` waits for it. Every process of `group` must run the same graph, so that the order of
    gradients, and so of collectives, is the same on all of them. A frozen parameter gets no gradient and is left out.
    """

    def __init__(self, parameters: Iterable[Tensor], group: dist.ProcessGroup) -> None:
        self.group = group
        self._bucket: list[Tensor] = []  # parameters whose gradients are ready and not yet sent
        self._bytes = 0  # of their gradients
        self._started: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._ready)  # type: ignore[no-untyped-call]

    def _ready(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._bucket.append(parameter)
        self._bytes += parameter.grad.nbytes
        if self._bytes >= BUCKET:
            self._start()

    def _start(self) -> None:
        bucket, self._bucket, self._bytes = self._bucket, [], 0
        flat = torch.cat([parameter.grad.reshape(-1) for parameter in bucket if parameter.grad is not None])
        self._started.append((bucket, flat, dist.all_reduce(flat, group=self.group, async_op=True)))

    @torch.no_grad()
    def finish(self) -> None:
        """Replace each `.grad` of the backward pass just run by its mean over the group."""
        if self._bucket:
            self._start()
        started, self._started = self._started, []  # also when a wait raises: the next step begins anew
        for bucket, flat, work in started:
            work.wait()
            means = flat.div_(self.group.size()).split_with_sizes([parameter.numel() for parameter in bucket])
            for parameter, mean in zip(bucket, means, strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(mean.view(parameter.shape))
