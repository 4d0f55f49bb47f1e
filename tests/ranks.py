"""Run a function on N processes that meet as torchrun's do, on this machine.

A server process imports once what is slow to import; each rank is a fork of it. Nothing that is imported there may
touch a GPU: CUDA does not survive a fork.
"""

import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["RankFailed", "on_ranks"]

TIME_OUT = 120.0  # seconds for all ranks together
PRELOADED = ["torch.distributed", "model.train.run", "torch.utils.tensorboard", "matplotlib.figure", "pytest"]


class RankFailed(AssertionError):
    """A rank raised, died or did not answer in time; the message holds its traceback."""


def on_ranks(processes: int, function: Callable[..., Any], *arguments: Any, time_out: float = TIME_OUT) -> list[Any]:
    """Run `function(*arguments)` on each rank and return the results in rank order. All of them must pickle.

    Raises RankFailed with the first traceback as soon as one fails. No process is left when this returns.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # The store lives here, as it does in torchrun, on a port that the system picks: nothing to race for.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    started, pipes = [], []
    try:
        with _importable():
            for rank in range(processes):
                pipe, far = context.Pipe(duplex=False)
                place = {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(processes),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(store.port),
                    "TORCHELASTIC_USE_AGENT_STORE": "True",
                }
                task = pickle.dumps((function, arguments))  # by value: multiprocessing itself would share tensors
                process = context.Process(target=_rank, args=(far, place, task), daemon=True)
                process.start()
                far.close()
                started.append(process)
                pipes.append(pipe)
        return _collect(pipes, time_out)
    finally:
        for process in started:
            process.kill()
            process.join()


def _collect(pipes: list[Connection], time_out: float) -> list[Any]:
    answers: dict[int, Any] = {}
    deadline = time.monotonic() + time_out
    while waiting := [pipe for rank, pipe in enumerate(pipes) if rank not in answers]:
        ready = wait(waiting, max(0.0, deadline - time.monotonic()))
        if not ready:
            raise RankFailed(f"ranks {[pipes.index(pipe) for pipe in waiting]} said nothing for {time_out} s")
        for pipe in waiting:
            if pipe not in ready:
                continue
            rank = pipes.index(pipe)
            try:
                answers[rank], failure = pickle.loads(pipe.recv_bytes())
            except EOFError:
                raise RankFailed(f"rank {rank} died") from None
            if failure:
                raise RankFailed(f"rank {rank}:\n{failure}")
    return [answers[rank] for rank in range(len(pipes))]


def _rank(pipe: Connection, place: dict[str, str], task: bytes) -> None:
    os.environ.update(place)
    torch.set_num_threads(1)  # the ranks share what cores there are
    try:
        function, arguments = pickle.loads(task)
        answer = pickle.dumps((function(*arguments), None))
    except BaseException:
        answer = pickle.dumps((None, traceback.format_exc()))
    pipe.send_bytes(answer)
    pipe.close()


@contextmanager
def _importable() -> Iterator[None]:
    """A rank finds `function` by its module's name, from the repository's root, where pytest found it."""
    root = str(Path(__file__).parents[1])
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
