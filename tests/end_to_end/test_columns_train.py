"""scripts/train.py on two processes: it learns what one does, and a killed run ends in the same bits."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from model.train.config import TrainConfig
from model.train.console import ConsoleLogger
from model.train.run import train
from tests.dice import dice
from tests.end_to_end.test_train import ROOT, bits, data, environment, steps_done
from tests.ranks import RankFailed, on_ranks

__all__ = ["data"]  # the fixture

STEPS = 14  # 120 images in batches of 16, two epochs


def learn(config: TrainConfig, victim: int = 0, killed_at: int = 0) -> bool:
    """Train in this process's place; process `victim` is killed when it asks whether to stop for the nth time: it does
    so after every step, and between epochs. It leaves a file that says so."""
    asked = 0

    def die() -> bool:
        nonlocal asked
        asked += 1
        if asked == killed_at and os.environ["RANK"] == str(victim):
            config.out.with_name(f"killed-{victim}-{killed_at}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return train(config, ConsoleLogger(), stop=die, log=print)


def killed(config: TrainConfig, victim: int, call: int) -> None:
    """Train on two processes until `victim` dies at the given call."""
    with pytest.raises(RankFailed):
        on_ranks(2, learn, config, victim, call)
    config.out.with_name(f"killed-{victim}-{call}").unlink()  # it was that, and nothing else, which failed


@pytest.fixture(scope="module")
def config(data: Path) -> TrainConfig:
    return TrainConfig(data=data, out=data, epochs=2, batch=16, save_minutes=1e-6, device="cpu", precision="fp32")


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
        on_ranks(processes, learn, replace(config, out=out, epochs=1, save_minutes=0.0))
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
    choice = dice()
    # Eleven calls at the most, so that none of them finds the run done.
    kills = [(0, choice.randrange(2, 6)), (1, choice.randrange(1, 4)), (0, choice.randrange(1, 4))]
    for victim, call in kills:
        killed(here, victim, call)
        assert not (here.out / "checkpoint.safetensors").exists()
    on_ranks(2, learn, here)
    assert bits(here.out) == bits(straight), f"killed: {kills}"


def test_another_world_size_goes_on(config: TrainConfig, tmp_path: Path) -> None:
    here = replace(config, out=tmp_path / "run", resume=True)
    killed(here, 1, 10)  # in the second epoch: the first one's end is saved
    done = steps_done(here.out)
    assert STEPS // 2 <= done < STEPS
    on_ranks(1, learn, here)
    assert steps_done(here.out) == STEPS


# torchrun passes the signal on to its processes; the main one, which sends it, waits for it.
STOPPED = """
import os, signal, time
from model.train.console import ConsoleLogger
from scripts import train
from scripts.command import run

class Stopping(ConsoleLogger):
    def step(self, done, loss, rates):
        if done == int(os.environ["AT_STEP"]):
            os.kill(os.getppid(), signal.SIGTERM)
            deadline = time.monotonic() + 30
            while signal.getsignal(signal.SIGTERM).__self__.signal is None and time.monotonic() < deadline:
                time.sleep(0.01)

train.ConsoleLogger = Stopping
run(train.TrainConfig, train.job)
"""


def torchrun(script: Path, *arguments: str, at_step: int = 0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(script), "--epochs", "2", "--batch", "16", "--save-minutes", "0", "--device", "cpu",
         "--precision", "fp32", *arguments],
        capture_output=True, text=True, env=environment(AT_STEP=str(at_step)), check=False, timeout=120,
        start_new_session=True,
    )  # fmt: skip


def test_torchrun_told_to_stop_saves_and_goes_on_to_the_same_bits(
    data: Path,
    straight: Path,
    tmp_path: Path,
) -> None:
    out, script = tmp_path / "run", tmp_path / "stopped.py"
    script.write_text(STOPPED)
    stopped = torchrun(script, "--data", str(data), "--out", str(out), at_step=9)
    assert "columns: 1 replica(s) of 2 process(es), because 2 processes divide into the 2 columns" in stopped.stderr
    assert stopped.stderr.count("stopped and saved") == 1, stopped.stderr
    assert steps_done(out) in (9, 10)
    assert not (out / "checkpoint.safetensors").exists()
    again = torchrun(ROOT / "scripts/train.py", "--data", str(data), "--out", str(out), "--resume")
    assert again.returncode == 0, again.stderr
    assert bits(out) == bits(straight)
