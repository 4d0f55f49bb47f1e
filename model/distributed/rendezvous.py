"""How torchrun's processes meet, check that they were given the same settings, and part."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from model.distributed.columns import Columns, Hybrid
from model.distributed.layout import LayoutError, Parallel, lay_out
from model.distributed.placement import OneProcess, Placement
from model.network.tables import Table

__all__ = ["join"]

# Longest wait for the others in one collective. It must cover what one process does alone while the rest wait (the main
# one writes checkpoints); torchrun ends the rest of a machine sooner when a process dies.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@contextmanager
def join(
    parallel: Parallel,
    *,
    table: Table,
    classes: int,
    batch: int,
    device: torch.device,
    settings: Mapping[str, object],
    log: Callable[[str], None],
) -> Iterator[Placement]:
    """Join the processes that torchrun started and yield this one's placement; without torchrun, that of one process.

    batch: images of the global batch. device: "cpu", or "cuda" for one GPU per process. settings: what every process
    must have been given alike. log: called on the main process with the chosen layout and the reason.
    Raises LayoutError on the first process of each machine; on the others SystemExit(2), so that one line is printed.
    When the block raises, this process leaves the group without waiting for what it has in flight; the others get an
    error from the collective that they wait in, at the latest after COLLECTIVE_TIMEOUT.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    with ExitStack() as stack:
        try:
            layout = lay_out(parallel, processes, table, classes, batch)
            if processes > 1:
                device = _meet(device)
                stack.callback(dist.destroy_process_group)
                _agree(settings)
        except LayoutError:
            if os.environ.get("LOCAL_RANK", "0") != "0":
                raise SystemExit(2) from None
            raise
        if processes == 1:
            yield OneProcess(device)
            return
        placement = (Hybrid if layout.scheme == "hybrid" else Columns)(layout, device)
        if placement.is_main:
            log(layout.why)
        try:
            yield placement
        except BaseException:
            placement.leave(failed=True)
            raise
        placement.leave(failed=False)


def _meet(device: torch.device) -> torch.device:
    """Join the process group and return this process's device. CPU tensors are sent by gloo, those on GPUs by NCCL."""
    if device.type == "cuda":
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
        if here > gpus:
            raise LayoutError(f"{here} processes on a machine with {gpus} GPU(s): start one for each, or --device cpu")
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    except (ValueError, dist.DistError) as error:  # ValueError: a variable that torchrun sets is missing
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = "that port is taken" if "EADDRINUSE" in str(error) else str(error).splitlines()[0]
        raise LayoutError(f"the processes cannot meet at {address}: {reason}") from error
    return device


def _agree(settings: Mapping[str, object]) -> None:
    """Raise LayoutError on every process when one of them was given other settings."""
    mine = {name: repr(value) for name, value in settings.items()}
    all_of_them: list[dict[str, str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(all_of_them, mine)
    for rank, theirs in enumerate(all_of_them):
        for name, value in all_of_them[0].items():
            if theirs.get(name) != value:
                raise LayoutError(f"process {rank} was given {name}={theirs.get(name)}, process 0 {name}={value}")
