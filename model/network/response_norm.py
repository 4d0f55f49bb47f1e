"""Local response normalisation (paper, section 3.3): the definition, and a fast form of it.

B images, C channels, H x W pixels.

    b = a / (k + alpha * sum of a'^2 over n adjacent channels)^beta

On a CPU, memory limits the formula, not arithmetic (`scripts/benchmark.py train` compares the fast form with torch's).
The fast form works on blocks of activations that stay in the cache. In a block, the sum over a window of channels is
one small matrix product with a band of ones, and d^-0.75 is rsqrt(d) * sqrt(rsqrt(d)). The backward pass is written by
hand and keeps only its input:

    dx = g d^-beta - 2 alpha beta x window(g x d^-(beta+1)),  d = k + alpha window(x^2)

because a symmetric window is its own adjoint. It needs no compiler and runs in any float type. On other devices the
window is `size` shifted sums, in plain tensor code for autograd and torch.compile, which can fuse it into one kernel.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.tables import ResponseNorm

__all__ = ["map_norm", "reference_map_norm", "reference_norm", "response_norm"]

BLOCK_BYTES = 1 << 20  # a block and its few temporaries fit a core's share of the cache


def reference_norm(x: Tensor, norm: ResponseNorm, groups: int = 1) -> Tensor:
    """The formula, channel by channel: (B, C, H, W) -> the same; no window crosses from one of `groups` to the next."""
    halves = []
    for half in x.chunk(groups, dim=1):
        channels = half.shape[1]
        reach = norm.size // 2
        out = []
        for i in range(channels):
            window = half[:, max(0, i - reach) : min(channels, i + reach + 1)]
            out.append(half[:, i] / (norm.k + norm.alpha * window.square().sum(dim=1)) ** norm.beta)
        halves.append(torch.stack(out, dim=1))
    return torch.cat(halves, dim=1)


def reference_map_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """The same formula over `size` x `size` pixels of one map (the 2012 code's second norm of layer 2)."""
    windows = F.unfold(x.flatten(0, 1)[:, None].square(), norm.size, padding=norm.size // 2)
    return x / (norm.k + norm.alpha * windows.sum(dim=1).view_as(x)) ** norm.beta


def response_norm(x: Tensor, norm: ResponseNorm, groups: int = 1) -> Tensor:
    """`reference_norm`, fast: (B, C, H, W) -> the same shape, type and device; fastest in channels_last."""
    return (blocked_norm if x.device.type == "cpu" else fused_norm)(x, norm, groups)


def blocked_norm(x: Tensor, norm: ResponseNorm, groups: int = 1) -> Tensor:
    """For a CPU: one block after another, with a backward pass written by hand."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels // groups)  # (B*H*W*groups, C/groups), no copy in channels_last
    index = torch.arange(channels // groups)
    band = ((index[:, None] - index).abs() <= norm.size // 2).to(x.dtype) * norm.alpha
    start = torch.full((1,), norm.k, dtype=x.dtype)

    def window(values: Tensor, plus_k: bool) -> Tensor:
        return torch.addmm(start, values, band) if plus_k else values @ band

    out: Tensor = _Normalise.apply(rows, window, norm.beta)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


def fused_norm(x: Tensor, norm: ResponseNorm, groups: int = 1) -> Tensor:
    """For other devices: every step works element by element, so torch.compile can make one kernel of them.

    It computes in at least float32; in a fused kernel the wider numbers stay in registers.
    """
    batch, _, height, width = x.shape
    channels, reach = x.shape[1] // groups, norm.size // 2
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height, width, groups, channels)
    wide = pixels.to(torch.promote_types(x.dtype, torch.float32))
    squares = F.pad(wide * wide, (reach, reach))
    sums = squares[..., :channels]
    for shift in range(1, 2 * reach + 1):
        sums = sums + squares[..., shift : shift + channels]
    out = wide * _power(norm.k + norm.alpha * sums, norm.beta)
    return out.to(x.dtype).flatten(3).permute(0, 3, 1, 2)


def map_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """`reference_map_norm`, fast: (B, C, H, W) -> the same shape, type and device."""
    return (blocked_map_norm if x.device.type == "cpu" else fused_map_norm)(x, norm)


def blocked_map_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """For a CPU: one block after another, with a backward pass written by hand."""

    def window(values: Tensor, plus_k: bool) -> Tensor:
        sums = _map_sums(values, norm).mul_(norm.alpha)
        return sums.add_(norm.k) if plus_k else sums

    out: Tensor = _Normalise.apply(x, window, norm.beta)
    return out


def fused_map_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """For other devices: plain tensor code around one pooling. It computes in at least float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    out = wide * _power(norm.k + norm.alpha * _map_sums(wide * wide, norm), norm.beta)
    return out.to(x.dtype)


def _map_sums(values: Tensor, norm: ResponseNorm) -> Tensor:
    """Sums over `size` x `size` pixels of each map, into new memory."""
    return F.avg_pool2d(values, norm.size, stride=1, padding=norm.size // 2, divisor_override=1)


Window = Callable[[Tensor, bool], Tensor]  # values -> alpha times their sums over a symmetric window, plus k if asked


class _Normalise(torch.autograd.Function):
    """x * (k + alpha * window(x^2))^-beta, walked through in blocks of rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, beta: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window, ctx.beta = window, beta
        out = torch.empty_like(x)
        for x_block, out_block in _blocks(x, out):
            torch.mul(x_block, _power(window(x_block * x_block, True), beta), out=out_block)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        window, beta = ctx.window, ctx.beta
        out = torch.empty_like(x)
        for x_block, g_block, out_block in _blocks(x, gradients[0], out):
            d = window(x_block * x_block, True)
            scaled = _power(d, beta).mul_(g_block)  # g d^-beta
            shared = window((scaled * x_block).div_(d), False)
            torch.addcmul(scaled, shared, x_block, value=-2 * beta, out=out_block)
        return out, None, None


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching slices along dimension 0, each small enough for the cache."""
    rows = len(tensors[0])
    block = max(1, BLOCK_BYTES * rows // tensors[0].nbytes) if rows else 1
    return zip(*(torch.split(t, block) for t in tensors), strict=True)


def _power(d: Tensor, beta: float) -> Tensor:
    """d^-beta into new memory."""
    if beta == 0.75:
        root = torch.rsqrt(d)
        return root.sqrt() * root
    return d.pow(-beta)
