"""Timings that can be compared: things run in turn, so that a change of the machine's speed touches all of them."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

import torch

from model.device import choose_device, device_name
from model.provenance import commit

__all__ = ["Timing", "Work", "conditions", "in_turn", "own_process", "table", "timed"]

T = TypeVar("T")

Work = Callable[[], int]  # one round; it returns how many images, or queries, it handled


@dataclass(frozen=True)
class Timing:
    """Several rounds of one thing."""

    seconds: tuple[float, ...]  # of each round
    handled: int  # images or queries in a round

    @property
    def rate(self) -> float:
        """Images or queries a second, in the median round."""
        return self.handled / statistics.median(self.seconds)

    @property
    def milliseconds(self) -> tuple[float, float, float]:
        """Of the fastest, the median and the slowest round."""
        return min(self.seconds) * 1e3, statistics.median(self.seconds) * 1e3, max(self.seconds) * 1e3


def in_turn(
    things: Mapping[str, Work], rounds: int, warm_up: int = 1, device: torch.device | None = None
) -> dict[str, Timing]:
    """Run each thing once in every round, in the order given; the first `warm_up` rounds do not count.

    device: a GPU whose work is waited for, where the things do not wait for it themselves.

    Raises ValueError when a thing handles different numbers in different rounds: its rate would mean nothing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in things}
    handled: dict[str, set[int]] = {name: set() for name in things}
    for turn in range(warm_up + rounds):
        for name, thing in things.items():
            start = time.perf_counter()
            handled[name].add(thing())
            if device is not None and device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    if uneven := [name for name, counts in handled.items() if len(counts) > 1]:
        raise ValueError(f"rounds of different sizes: {', '.join(uneven)}")
    return {name: Timing(tuple(taken), handled[name].pop()) for name, taken in seconds.items()}


def own_process() -> Executor:
    """A fresh process that does one thing after another."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def timed(job: Callable[[], T]) -> tuple[T, float]:
    """What `job` returns, and how many seconds it took, once."""
    begun = time.perf_counter()
    result = job()
    return result, time.perf_counter() - begun


def conditions(device: str = "auto") -> str:
    """The GPU that `device` stands for, if any, processor, cores, versions and commit: printed with every table."""
    chosen, machine = choose_device(device), device_name(torch.device("cpu"))
    if chosen.type == "cuda":
        machine = f"{device_name(chosen)}; {machine}"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{machine}; {versions}, commit {(commit() or 'none')[:10]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, its columns aligned for reading in a terminal too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
