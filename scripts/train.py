"""Train AlexNet on a packed data set: the paper's optimiser and recipe, resumable at any step.

SIGTERM saves and exits 0; Ctrl-C saves and exits 130; --resume goes on from there, or from a kill, to the same bits.
"""

import signal

from model.run import TrainConfig, train
from model.watches import Told, stopping
from scripts.command import run


def job(config: TrainConfig) -> None:
    """Train and say where the result is."""
    with stopping() as stop:
        folder, finished = train(config, Told(), stop=stop)
    if finished:
        print(f"trained: {folder.final}")
        return
    print(f"stopped and saved: {folder.state}; --resume goes on")
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt


if __name__ == "__main__":
    run(TrainConfig, job)
