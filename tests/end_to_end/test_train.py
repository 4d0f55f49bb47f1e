"""scripts/train.py in real processes: killed at random steps and told to stop, a run still ends in the same bits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from model.data.folders import folder_source
from model.data.packing import pack
from model.device import device_name
from model.precision import use_bf16
from tests.dice import dice

ROOT = Path(__file__).parents[2]

# What a signal does is decided by the step at which it comes, so the process sends it to itself.
SIGNALLED = """
import os, signal, sys, time
from model.train.console import ConsoleLogger
from model.train.run_folder import RunFolder
from scripts import train
from scripts.command import run

class Signalled(ConsoleLogger):
    def step(self, done, loss, rates):
        if done == int(os.environ["AT_STEP"]):
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))

def save(self, state):
    print("saving", flush=True)
    time.sleep(600)

if "SLOW_DISK" in os.environ:
    RunFolder.save = save
train.ConsoleLogger = Signalled
run(train.TrainConfig, train.job)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of three colours, packed."""
    folder, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("data") / "colours"
    noise = np.random.default_rng(0)
    for name, colour in (("blue", (40, 40, 200)), ("green", (40, 200, 40)), ("red", (200, 40, 40))):
        (folder / name).mkdir()
        for number in range(40):
            pixels = (np.array(colour) + noise.integers(-40, 40, (32, 32, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    pack(out, {"train": folder_source(folder, 32)})
    return out


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--out", str(out), "--epochs", "3", "--batch", "16", "--save-minutes", "1e-6", *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **more}


def train(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/train.py"), *arguments],
        capture_output=True, text=True, env=environment(), check=False, timeout=120,
    )  # fmt: skip


def bits(out: Path) -> dict[str, bytes]:
    with safe_open(out / "state.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118 (not a dict)


def steps_done(out: Path) -> int:
    try:
        with safe_open(out / "state.safetensors", framework="pt") as file:
            return int(json.loads(file.metadata()["about"])["progress"]["step"])
    except OSError:
        return 0


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    done = train(*command(data, out))
    assert done.returncode == 0, done.stderr
    cpu = torch.device("cpu")
    device, precision = device_name(cpu), "bf16" if use_bf16("auto", cpu) else "fp32"
    begun = f"training on {device}, {precision}, not compiled: 114 images, 6 to validate on, 21 steps of 16\n"
    assert done.stderr.count(begun) == 1
    assert done.stderr.startswith(begun)
    assert "epoch 3:" in done.stderr
    assert f"trained: {out / 'checkpoint.safetensors'}" in done.stderr
    return out


def signalled(arguments: list[str], step: int, signal_name: str, **more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(AT_STEP=str(step), SIGNAL=signal_name, **more),
    )  # fmt: skip


def test_killed_at_three_random_steps_and_resumed_is_the_same_network(
    data: Path, tmp_path: Path, straight: Path
) -> None:
    steps = sorted(dice().sample(range(1, steps_done(straight) + 1), 3))
    for step in steps:
        killed = signalled(command(data, tmp_path / "run", "--resume"), step, "SIGKILL")
        _, message = killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, message
        assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    done = train(*command(data, tmp_path / "run", "--resume"))
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "run") == bits(straight), f"killed at {steps}"
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()[1:]]
    assert losses == [json.loads(line)["loss"] for line in (straight / "log.jsonl").read_text().splitlines()[1:]]


def test_ctrl_c_and_sigterm_save_and_leave_and_resume_ends_the_same(data: Path, tmp_path: Path, straight: Path) -> None:
    arguments = command(data, tmp_path / "run", "--resume", "--save-minutes", "0")  # nothing else saves these steps
    for step, signal_name, exit_code in ((5, "SIGINT", 130), (9, "SIGTERM", 0)):
        process = signalled(arguments, step, signal_name)
        _, message = process.communicate(timeout=60)
        assert process.returncode == exit_code, message
        assert "stopped and saved" in message
        assert steps_done(tmp_path / "run") in (step, step + 1)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert train(*arguments).returncode == 0
    assert bits(tmp_path / "run") == bits(straight)


def test_the_second_ctrl_c_leaves_at_once(data: Path, tmp_path: Path) -> None:
    """The first one waits for a save that a slow disk takes ten minutes for."""
    process = signalled(command(data, tmp_path / "run", "--save-minutes", "0"), 3, "SIGINT", SLOW_DISK="yes")
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=30)
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 130, message
    assert "Traceback" not in message


def test_a_second_run_is_refused_and_another_resume_says_what_differs(data: Path, straight: Path) -> None:
    before = bits(straight)
    again = train(*command(data, straight))
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "holds a run already: --resume goes on with it" in again.stderr
    other = train(*command(data, straight, "--resume", "--seed", "5"))
    assert other.returncode == 2
    assert "seed was 0, is 5" in other.stderr
    assert bits(straight) == before


def test_evaluate_agrees_with_the_training_log(data: Path, straight: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/evaluate.py"), "--data", str(data), "--json", "--views", "1", "10",
         "--checkpoint", str(straight / "checkpoint.safetensors"), str(straight / "best.safetensors")],
        capture_output=True, text=True, env=environment(), check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["views"], row["network"].rsplit("/", 1)[-1]) for row in rows] == [
        (views, name) for views in (1, 10) for name in ("checkpoint.safetensors", "best.safetensors", "mean")
    ]
    logged = json.loads((straight / "log.jsonl").read_text().splitlines()[-1])["scores"]
    assert rows[0]["top1"] == logged["top1"]
    assert rows[0]["loss"]["value"] == pytest.approx(logged["loss"]["value"], rel=1e-5)


def test_two_resumes_of_one_run_do_not_meet(data: Path, tmp_path: Path) -> None:
    arguments = command(data, tmp_path / "run", "--resume", "--epochs", "1000")
    first = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/train.py"), *arguments],
        stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not steps_done(tmp_path / "run") and time.monotonic() < deadline:
            time.sleep(0.02)
        second = train(*arguments)
        assert first.poll() is None
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert second.returncode == 2
    assert (
        second.stderr
        == f"train.py: {tmp_path / 'run'}: another process trains here; wait for it, or name another --out\n"
    )
    assert first.returncode == 0
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in log].count("run") == 1
