"""Which arithmetic a number stands for: full float32 or TF32, bfloat16 or not, the same bits each time or not.

TF32 is what GPUs put in the place of float32 unless told otherwise: inputs of convolutions (and, where it is asked
for, of matrix products) are rounded to 10 bits, a thousand times coarser than a CPU's float32.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

__all__ = ["NotDeterministic", "Precision", "deterministic", "full_float32", "use_bf16"]

Precision = Literal["auto", "bf16", "fp32"]
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
FIXED = (":4096:8", ":16:8")  # cuBLAS workspaces with which it gives the same bits each time


class NotDeterministic(ValueError):
    """The same bits each time cannot be had; the message says why."""


@contextmanager
def full_float32(*, repeatable: bool = False) -> Iterator[None]:
    """Compute float32 in float32 on a GPU, too, for the whole process while the block runs.

    repeatable: by convolution algorithms of cuDNN that give the same bits each time. bfloat16 is not affected.
    """
    cudnn: Any = torch.backends.cudnn  # its stubs lack `conv`
    products = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, products.fp32_precision, cudnn.deterministic
    cudnn.conv.fp32_precision = products.fp32_precision = "ieee"
    cudnn.deterministic = repeatable or cudnn.deterministic
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, products.fp32_precision, cudnn.deterministic = before


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Give the same bits each time, for the whole process while the block runs; enter it before the GPU is used.

    Raises NotDeterministic where the environment forbids it, and for an operation of the block that has no such form.
    """
    if device.type == "cuda" and (chosen := os.environ.setdefault(WORKSPACE, FIXED[0])) not in FIXED:
        raise NotDeterministic(f"{WORKSPACE}={chosen}: the same bits each time need {' or '.join(FIXED)}, or none set")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise NotDeterministic(f"the same bits each time cannot be had: {str(error).split(',')[0]}") from error
    finally:
        torch.use_deterministic_algorithms(before)


def use_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether to compute in bfloat16. "auto": not on a CPU that would emulate it, far slower than float32."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
