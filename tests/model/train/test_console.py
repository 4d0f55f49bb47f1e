"""What the console logger writes of a training run."""

import io

import torch

from model.evaluation import Figure, Scores
from model.train.callbacks import Epoch
from model.train.console import ConsoleLogger
from model.train.schedule import Rates


def test_a_run_in_lines() -> None:
    stream = io.StringIO()
    console = ConsoleLogger(stream)
    console.log("before")
    console.begin(steps=10, done=9, batch=128)
    console.step(10, 1.5, Rates(0.01, 0.02))
    figure = Figure(0.5, 0.4, 0.6)
    console.epoch(
        Epoch(1, 10, Rates(0.01, 0.02), 1.25, Scores(30, figure, figure, figure), 60, 33.3, 0.1), torch.zeros(1)
    )
    console.end(True)
    console.log("after")
    before, going_on, progress, epoch, after = stream.getvalue().splitlines()
    assert (before, going_on, after) == ("before", "going on after step 9 of 10", "after")
    assert progress.startswith("training: 1280 of 1280")
    assert progress.endswith("loss 1.500, rate 0.01")
    assert epoch == ("epoch 1: loss 1.250, validation 0.500, top-1 50.00 %, top-5 50.00 %, rate 0.01, 33 img/s, 60 s")
