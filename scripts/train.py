"""Train AlexNet on a packed dataset: the paper's optimiser and recipe, resumable at any step.

SIGTERM saves and exits 0; Ctrl-C saves and exits 130, a second one at once; --resume goes on from there, or from a
kill. On a CPU, or with --deterministic, it ends in the bits of a run that was never interrupted.
"""

import signal

from model.allocator import keep_freed_memory
from model.train.config import TrainConfig
from model.train.console import ConsoleLogger
from model.train.run import train
from model.train.stopping import stopping
from scripts.command import run


def job(config: TrainConfig) -> None:
    """Train; the result is said by the main process."""
    keep_freed_memory()
    console = ConsoleLogger()
    with stopping() as stop:
        finished = train(config, console, stop=stop, log=console.log)
    if not finished and stop.signal == signal.SIGINT:
        raise KeyboardInterrupt


if __name__ == "__main__":
    run(TrainConfig, job)
