"""Where a network computes: the device that a name stands for, and what to call it.

torch takes seconds to import and is not needed on a CPU, so it is imported only where a GPU may be.
"""

import ctypes
import os
import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["NoSuchDevice", "choose_device", "device_name", "is_cpu"]


class NoSuchDevice(ValueError):
    """The device that was asked for is not on this machine."""


def is_cpu(device: str) -> bool:
    """Return whether a device's name stands for the CPU, without torch where there is none or no NVIDIA driver.

    Raises NoSuchDevice.
    """
    if device == "cpu" or (device == "auto" and not (_has_driver() and find_spec("torch"))):
        return True
    return choose_device(device).type == "cpu"


def choose_device(device: str) -> "torch.device":
    """Return the device that "auto" (the first GPU where there is one, else the CPU), "cpu", "cuda" or "cuda:N" names.

    Raises NoSuchDevice, also where torch cannot be loaded.
    """
    try:
        import torch
    except ImportError as error:
        raise NoSuchDevice(
            f"{device!r} needs torch, which cannot be loaded here ({error}); accepted are auto and cpu"
        ) from error

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise NoSuchDevice(f"{device!r} is not a device; accepted are auto, cpu, cuda and cuda:N") from error
    if chosen.type == "cpu":
        return torch.device("cpu")  # torch takes "cpu:0" for another device
    if chosen.type != "cuda" or (chosen.index or 0) >= torch.cuda.device_count():
        raise NoSuchDevice(f"there is no {device!r} here; this machine has {torch.cuda.device_count()} GPUs")
    return chosen


def device_name(device: "torch.device") -> str:
    """Return the GPU's model, or the processor's and how many cores it has."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return False
    return True


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            found = dict(line.split(":", 1) for line in lines if ":" in line)
        bf16 = " with AVX-512 BF16" if "avx512_bf16" in found.get("flags\t\t", "") else ""
        return found.get("model name\t", platform.machine()).strip() + bf16
    except OSError:
        return platform.machine()
