"""Where a network computes: the device that a name stands for, and what to call it."""

import os
import platform

import torch

__all__ = ["NoSuchDevice", "choose_device", "device_name"]


class NoSuchDevice(ValueError):
    """The device that was asked for is not on this machine."""


def choose_device(device: str) -> torch.device:
    """Return the device that "auto" (the first GPU where there is one, else the CPU), "cpu", "cuda" or "cuda:N" names.

    Raises NoSuchDevice.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise NoSuchDevice(f"{device!r} is not a device; accepted are auto, cpu, cuda and cuda:N") from error
    there = chosen.type == "cpu" or (chosen.type == "cuda" and (chosen.index or 0) < torch.cuda.device_count())
    if not there:
        raise NoSuchDevice(f"there is no {device!r} here; this machine has {torch.cuda.device_count()} GPUs")
    return chosen


def device_name(device: torch.device) -> str:
    """Return the GPU's model, or the processor's and how many cores it has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            found = dict(line.split(":", 1) for line in lines if ":" in line)
        bf16 = " with AVX-512 BF16" if "avx512_bf16" in found.get("flags\t\t", "") else ""
        return found.get("model name\t", platform.machine()).strip() + bf16
    except OSError:
        return platform.machine()
