"""scripts/train.py on two processes: it learns what one does, and a killed run ends in the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from model.train.callbacks import ConsoleLogger
from model.train.config import TrainConfig
from model.train.run import train
from tests.end_to_end.test_train import ROOT, bits, data, environment, steps_done
from tests.ranks import RankFailed, on_ranks

__all__ = ["data"]  # the fixture

STEPS = 14  # 120 images in batches of 16, two epochs


def learn(config: TrainConfig, victim: int = 0, killed_at: int = 0) -> bool:
    """Train in this process's place; process `victim` is killed when it asks whether to stop for the nth time: it does
    so after every step, and between epochs."""
    asked = 0

    def die() -> bool:
        nonlocal asked
        asked += 1
        if asked == killed_at and os.environ["RANK"] == str(victim):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return train(config, ConsoleLogger(), stop=die, log=print)


@pytest.fixture(scope="module")
def config(data: Path) -> TrainConfig:
    return TrainConfig(data=data, out=data, epochs=2, batch=16, save_every=4, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def straight(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert on_ranks(2, learn, replace(config, out=out)) == [True, True]
    return out


def test_two_processes_learn_what_one_does(config: TrainConfig, tmp_path: Path) -> None:
    """One epoch: in the next ones this task is learned, and rounding decides the rest."""
    ends, losses = [], []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        on_ranks(processes, learn, replace(config, out=out, epochs=1, save_every=0))
        ends.append(load_file(out / "checkpoint.safetensors"))
        losses.append(json.loads((out / "log.jsonl").read_text().splitlines()[1])["loss"])
    one, two = ends
    for name, tensor in one.items():
        assert np.linalg.norm(two[name] - tensor) <= 1e-4 * np.linalg.norm(tensor), name
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_either_process_killed_and_resumed_is_the_same_network(
    config: TrainConfig, straight: Path, tmp_path: Path
) -> None:
    here = replace(config, out=tmp_path / "run", resume=True)
    dice = random.SystemRandom()
    kills = [(0, dice.randrange(2, 12)), (1, dice.randrange(1, 4)), (0, dice.randrange(1, 4))]
    for victim, call in kills:
        with pytest.raises(RankFailed):
            on_ranks(2, learn, here, victim, call)
        assert not (here.out / "checkpoint.safetensors").exists()
    on_ranks(2, learn, here)
    assert bits(here.out) == bits(straight), f"killed: {kills}"


def test_another_world_size_goes_on(config: TrainConfig, tmp_path: Path) -> None:
    here = replace(config, out=tmp_path / "run", resume=True)
    with pytest.raises(RankFailed):
        on_ranks(2, learn, here, 1, 8)
    done = steps_done(here.out)
    assert 0 < done < STEPS
    on_ranks(1, learn, here)
    assert steps_done(here.out) == STEPS


def torchrun(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(ROOT / "scripts/train.py"), "--epochs", "2", "--batch", "16", "--save-every", "4", "--device", "cpu",
         "--precision", "fp32", *arguments],
        stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip


def test_torchrun_told_to_stop_saves_and_goes_on_to_the_same_bits(
    data: Path,
    straight: Path,
    tmp_path: Path,
) -> None:
    process = torchrun("--data", str(data), "--out", str(tmp_path / "run"))
    deadline = time.monotonic() + 60
    while not steps_done(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert "columns: 1 replica(s) of 2 process(es), because 2 processes divide into the 2 columns" in message
    if not (tmp_path / "run" / "checkpoint.safetensors").exists():  # a fast machine may have been done
        assert message.count("stopped and saved") == 1, message
        again = torchrun("--data", str(data), "--out", str(tmp_path / "run"), "--resume")
        _, message = again.communicate(timeout=120)
        assert again.returncode == 0, message
    assert bits(tmp_path / "run") == bits(straight)
