"""All processes go on from the same state, or every one of them is refused in words and none waits for another."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import files
from model.distributed.placement import OneProcess
from model.distributed.rendezvous import join
from model.precision import Precision
from model.train.config import TrainConfig
from model.train.console import ConsoleLogger
from model.train.resume import state_of_all
from model.train.run import train
from model.train.run_folder import RunFolder
from model.train.state import BadRun, Json, RunProgress, State, read
from tests.model.train.tasks import TINY
from tests.model.train.test_run import MANY, packed, start
from tests.ranks import on_ranks


def described(out: Path) -> Json:
    """What the run in `out` says it is."""
    with safe_open(out / "state.safetensors", framework="pt") as file:
        identity: Json = json.loads(file.metadata()["about"])["identity"]
    return identity


def refusal(config: TrainConfig, disks: list[Path]) -> str | None:
    """Train on this process's own disk; return what it was refused with."""
    os.chdir(disks[int(os.environ["RANK"])])
    try:
        start(config)
    except BadRun as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run in the working folder: each process may have its own."""
    data = packed(tmp_path_factory.mktemp("data") / "set", MANY)
    return TrainConfig(data=data, out=Path("run"), epochs=1, batch=100, device="cpu", precision="fp32", resume=True)


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run", {}), RunFolder(tmp_path / "run", {})
    first.claim(network=1, state=1)
    with pytest.raises(BadRun, match="another process trains here"):
        second.claim(network=1, state=1)
    first.close()
    second.claim(network=1, state=1)
    second.close()


def test_a_folder_that_is_held_refuses_every_process(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with files.locked(tmp_path / "run" / "lock"):
        refusals = on_ranks(2, refusal, config, [tmp_path, tmp_path], time_out=60)
    assert refusals == ["run: another process trains here; wait for it, or name another --out"] * 2
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["lock"]


def test_a_disk_that_fails_refuses_every_process_too(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(BadRun, match="Input/output error"):
        state_of_all(RunFolder(tmp_path, {}), OneProcess(torch.device("cpu")), resume=True, claim=fail)


def went_on(disks: list[Path]) -> int | str:
    """Read the run on this process's own disk; return the step to go on from, or what it was refused with."""
    settings, device = {"out": "run"}, torch.device("cpu")
    with join("data", table=TINY, classes=2, batch=16, device=device, settings=settings, log=print) as placement:
        folder = RunFolder(disks[int(os.environ["RANK"])] / "run", {})
        try:
            state = state_of_all(folder, placement, resume=True, claim=lambda: None)
        except BadRun as error:
            return str(error)
    return 0 if state is None else state.progress.step


def test_processes_that_see_different_disks_are_all_refused(tmp_path: Path) -> None:
    """One finds nothing, one another step, one the same step with other numbers, one a run that is done."""
    main, empty, later, other, done, copy = (
        tmp_path / name for name in ("main", "empty", "later", "other", "done", "copy")
    )
    for disk, step, number in ((main, 4, 1.0), (later, 8, 1.0), (other, 4, 2.0), (done, 4, 1.0), (copy, 4, 1.0)):
        RunFolder(disk / "run", {}).save(State(RunProgress(step), {"fc8.bias": torch.tensor([number])}, {}))
    (done / "run" / "checkpoint.safetensors").touch()
    for disk, found in ((empty, "no state"), (later, "step 8 "), (other, "step 4 "), (done, "a finished run")):
        first, second = on_ranks(2, went_on, [main, disk], time_out=60)
        assert first.startswith(f"{main / 'run'}: process 1 found {found}")
        assert second.startswith(f"{disk / 'run'}: process 1 found {found}")
        assert ", process 0 found step 4 (state " in first
    assert on_ranks(2, went_on, [main, copy], time_out=60) == [4, 4]


def begun(disk: Path) -> str:
    """Begin a run whose precision is this machine's own; return what this process was refused with."""
    precision = ("bf16", "fp32")[int(os.environ["RANK"])]
    device = torch.device("cpu")
    with join("data", table=TINY, classes=2, batch=16, device=device, settings={}, log=print) as placement:
        try:
            state_of_all(RunFolder(disk / "run", {"precision": precision}), placement, resume=True, claim=lambda: None)
        except BadRun as error:
            return str(error)
    return "begun"


def test_machines_of_which_one_has_no_bf16_are_all_refused(tmp_path: Path) -> None:
    expected = "process 1 would train another run than process 0: precision was bf16, is fp32"
    assert on_ranks(2, begun, tmp_path, time_out=60) == [expected] * 2


@pytest.mark.slow
def test_a_resume_that_only_one_machine_can_read_ends_on_both(config: TrainConfig, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for disk in (here, elsewhere):
        disk.mkdir()
        start(replace(config, out=disk / "run"))
    (elsewhere / "run" / "state.safetensors").write_bytes(b"torn")
    for disks, message in (([here, elsewhere], "process 1: run/state"), ([elsewhere, here], "run/state")):
        refusals = on_ranks(2, refusal, config, disks, time_out=60)
        assert refusals[0] == refusals[1]
        assert refusals[0].startswith(f"{message}.safetensors: not a whole training state")


class StopAfter:
    """Asks to stop from its nth call on; it is called after each step and between epochs."""

    def __init__(self, calls: int) -> None:
        self.calls, self.deterministic = calls, False

    def __call__(self) -> bool:
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.calls -= 1
        return self.calls <= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision"),
    [("cpu", "fp32"), *(pytest.param("cuda", kind, marks=pytest.mark.gpu) for kind in ("fp32", "bf16"))],
)
def test_a_deterministic_run_resumes_to_the_same_bits(
    device: str, precision: Precision, config: TrainConfig, tmp_path: Path
) -> None:
    whole = replace(
        config, out=tmp_path / "whole", epochs=2, batch=50, device=device, precision=precision, deterministic=True
    )
    cut = replace(whole, out=tmp_path / "cut")
    assert start(whole)
    for calls in (2, 4):
        stop = StopAfter(calls)
        assert not train(cut, ConsoleLogger(), stop=stop, log=print)
        assert stop.deterministic
    assert start(cut)
    digests = [read(one.out / "state.safetensors", described(one.out)).digest() for one in (whole, cut)]
    assert digests[0] == digests[1]


def test_a_deterministic_run_is_not_resumed_as_another(config: TrainConfig, tmp_path: Path) -> None:
    here = replace(config, out=tmp_path / "run")
    start(here)
    with pytest.raises(BadRun, match="deterministic was False, is True"):
        start(replace(here, deterministic=True))
