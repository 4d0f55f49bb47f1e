"""The loop learns, saves what it says, goes on to the same bits from any step, and stops in words when it must."""

import errno
import json
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import files
from model import checkpoint
from model.data.loader import Batch
from model.distributed.placement import OneProcess
from model.train.callbacks import Epoch
from model.train.log import RunLog, curves, epochs, kernels
from model.train.loop import Diverged, Trainer
from model.train.recipes import CIFAR, PAPER
from model.train.run_folder import RunFolder
from model.train.schedule import Rates, Stalls, clearly_below_chance
from model.train.state import BadRun, RunProgress, State, differences, read
from model.train.step import Learner, TrainingTask
from tests.model.train.tasks import Stripes, fresh, task

CPU = torch.device("cpu")
OLD_FORMAT = "fc7 training state 1"  # velocities, of a rate inside them
STEPS = 18  # of lesson(): 3 epochs of 6


class Seen:
    """A Callback that remembers, and asks to stop after a given step."""

    def __init__(self, stop_after: int = -1) -> None:
        self.losses: dict[int, float] = {}
        self.epochs: list[Epoch] = []
        self.begun: tuple[int, int, int] = (0, 0, 0)
        self.ended: bool | None = None
        self.stop_after = stop_after

    def begin(self, steps: int, done: int, batch: int) -> None:
        self.begun = (steps, done, batch)

    def step(self, done: int, loss: float, rates: Rates) -> None:
        assert rates.weights > 0
        self.losses[done] = loss

    def epoch(self, epoch: Epoch, conv1: Tensor) -> None:
        assert conv1.shape == (8, 3, 3, 3)
        self.epochs.append(epoch)

    def end(self, finished: bool) -> None:
        self.ended = finished

    def stop(self) -> bool:
        return self.stop_after in self.losses


def trained(path: Path, of: TrainingTask, *, stop_after: int = -1, save_every: int = 4, resume: bool = False) -> Seen:
    """Run or go on, in this process."""
    folder = RunFolder(path, {"seed": of.seed})
    state = folder.begin(resume)
    callback = Seen(stop_after)
    trainer = Trainer(of, OneProcess(CPU), folder, state or fresh(of), {"data": "stripes"})

    def save_now() -> bool:
        return max(callback.losses) % save_every == 0

    finished = trainer.run(callback, save_now=save_now, stop=callback.stop)
    assert finished == callback.ended == folder.done()
    return callback


def saved(path: Path) -> State:
    state = RunFolder(path, {"seed": 0}).begin(resume=True)
    assert state is not None
    return state


def assert_same_bits(got: State, expected: State) -> None:
    assert replace(got.progress, seconds=0) == replace(expected.progress, seconds=0)
    for kind in ("weights", "momentum"):
        mine, theirs = getattr(got, kind), getattr(expected, kind)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), f"{kind} {name}"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A run that nothing disturbed."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    return path, trained(path, task())


def test_a_network_learns_what_is_to_be_learned(tmp_path: Path) -> None:
    callback = trained(tmp_path / "run", task(replace(CIFAR, batch=16, epochs=15)))
    assert callback.epochs[-1].scores.top1.value > 0.9
    assert callback.epochs[-1].loss < 0.5 * callback.epochs[0].loss


@pytest.mark.parametrize("stopped", [1, 4, 6, 7, 12, 17])
def test_a_stopped_run_goes_on_to_the_same_bits(stopped: int, tmp_path: Path, straight: tuple[Path, Seen]) -> None:
    """Mid-epoch, on a save, at an epoch's end and just after one."""
    path, callback = straight
    first = trained(tmp_path / "run", task(), stop_after=stopped)
    then = trained(tmp_path / "run", task(), resume=True)
    assert first.ended is False
    assert then.begun == (STEPS, max(first.losses), 16)
    assert {**first.losses, **then.losses} == callback.losses
    assert [epoch.loss for epoch in first.epochs + then.epochs] == [epoch.loss for epoch in callback.epochs]
    assert_same_bits(saved(tmp_path / "run"), saved(path))


def test_a_save_is_the_state_of_its_step_though_training_goes_on(tmp_path: Path) -> None:
    """The disk takes the save of step 1 only when step 3 is done."""
    of, callback = task(), Seen(stop_after=3)
    trained(tmp_path / "expected", of, stop_after=1)
    gone_on = threading.Event()

    class Slow(RunFolder):
        def save(self, state: State) -> None:
            assert gone_on.wait(30), "training waits for the disk"
            super().save(state)
            if not (tmp_path / "seen").exists():
                shutil.copy(self.state, tmp_path / "seen")

    def stop() -> bool:
        if callback.stop():
            gone_on.set()
        return callback.stop()

    folder = Slow(tmp_path / "run", {"seed": 0})
    trainer = Trainer(of, OneProcess(CPU), folder, fresh(of), {})
    assert not trainer.run(callback, save_now=lambda: max(callback.losses) == 1, stop=stop)
    assert_same_bits(read(tmp_path / "seen", {"seed": 0}), saved(tmp_path / "expected"))
    assert saved(tmp_path / "run").progress.step == 3


def test_what_a_finished_run_leaves(straight: tuple[Path, Seen]) -> None:
    path, callback = straight
    final = checkpoint.load(path / "checkpoint.safetensors")
    assert final.provenance["epoch"] == 3
    assert final.provenance["data"] == "stripes"
    assert final.provenance["scores"]["top1"]["value"] == callback.epochs[-1].scores.top1.value
    assert final.classes == ("across", "down")
    assert (final.recipe.stored, final.recipe.crop) == (32, 28)
    errors = [epoch.scores.error for epoch in callback.epochs]
    best = checkpoint.load(path / "best.safetensors")
    assert best.provenance["epoch"] == errors.index(min(errors)) + 1
    assert sorted(file.name for file in (path / "epochs").iterdir()) == ["0002.safetensors", "0003.safetensors"]
    assert not list(path.rglob("*.part"))
    state = saved(path)
    assert state.progress.step == STEPS
    for name, tensor in final.weights.items():
        assert torch.equal(tensor, state.weights[name])


def test_a_finished_run_resumed_changes_nothing(straight: tuple[Path, Seen]) -> None:
    path, _ = straight
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    callback = trained(path, task(), resume=True)
    assert callback.losses == {}
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_seed_changes_everything(straight: tuple[Path, Seen], tmp_path: Path) -> None:
    _, callback = straight
    other = trained(tmp_path / "run", task(seed=1))
    assert other.losses[1] != callback.losses[1]


def test_a_loss_that_is_no_number_stops_with_step_rate_and_last_good_file(tmp_path: Path) -> None:
    mad = task(replace(CIFAR, batch=16, epochs=3, schedule="constant", rate=1e6))
    with pytest.raises(Diverged, match=r"no number any more at step \d+ \(learning rate 1e\+06\); nothing was saved"):
        trained(tmp_path / "run", mad)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    """The loss is the step's before, so the weights may be bad while it is still good."""
    of = task()
    trained(tmp_path / "run", of, stop_after=7)
    good = (tmp_path / "run" / "state.safetensors").read_bytes()
    folder = RunFolder(tmp_path / "run", {"seed": 0})
    trainer = Trainer(of, OneProcess(CPU), folder, saved(tmp_path / "run"), {})
    with torch.no_grad():
        trainer.learner.network.get_parameter("fc8.bias").fill_(torch.nan)
    with pytest.raises(Diverged, match=r"last good state is .*0001\.safetensors"):
        trainer._save()
    trainer.writer.wait()
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == good


def test_plateau_ends_a_run_early(tmp_path: Path) -> None:
    """A network that has learned, and does not improve, gets a drop and then the end; one that has not goes on."""
    recipe = replace(PAPER, stored=32, crop=28, batch=16, epochs=9, rate=0.03, patience=1, drops=1)
    of = replace(task(recipe), validation=Stripes(100, seed=1))
    callback = trained(tmp_path / "run", of)
    assert min(epoch.scores.error for epoch in callback.epochs) < clearly_below_chance(of.validation.labels)
    assert [epoch.rates.weights for epoch in callback.epochs[-2:]] == pytest.approx([0.03, 0.003])
    assert len(callback.epochs) < 9
    callback = trained(tmp_path / "slow", replace(of, recipe=replace(recipe, rate=1e-9)))
    assert [epoch.rates.weights for epoch in callback.epochs] == pytest.approx([1e-9] * 9)


def test_frozen_layers_do_not_move() -> None:
    of = replace(task(), frozen=("conv1", "fc6"))
    start = fresh(of)
    learner = Learner(of, OneProcess(CPU), start.weights)
    before = {name: tensor.clone() for name, tensor in learner.weights().items()}
    images, labels = torch.from_numpy(Stripes(16).pixels), torch.from_numpy(Stripes(16).labels)
    learner.step(Batch(images, labels), 0, Rates(0.01, 0.01), colour=False)
    for name, tensor in learner.weights().items():
        assert torch.equal(tensor, before[name]) == name.startswith(("conv1.", "fc6.")), name


def test_a_run_is_not_started_over_another(straight: tuple[Path, Seen]) -> None:
    path, _ = straight
    with pytest.raises(BadRun, match="holds a run already: --resume goes on with it"):
        RunFolder(path, {"seed": 0}).begin(resume=False)


def test_a_run_is_not_resumed_as_another(straight: tuple[Path, Seen]) -> None:
    path, _ = straight
    with pytest.raises(BadRun, match=r"another run.*: recipe was None, is \{'batch': 4\}; seed was 0, is 7"):
        RunFolder(path, {"seed": 7, "recipe": {"batch": 4}}).begin(resume=True)


def test_differences_go_into_nested_settings() -> None:
    assert list(differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 9}, "d": 3})) == ["a.c was 2, is 9"]


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_state_is_one_clear_line(length: int, straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    (tmp_path / "state.safetensors").write_bytes((path / "state.safetensors").read_bytes()[:length])
    with pytest.raises(BadRun, match="not a whole training state"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_a_checkpoint_is_not_a_state(straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    shutil.copy(path / "checkpoint.safetensors", tmp_path / "state.safetensors")
    with pytest.raises(BadRun, match="format is 'fc7 checkpoint 1'"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_a_state_of_an_older_format_is_one_clear_line(straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    with safe_open(path / "state.safetensors", framework="pt") as file:
        about = file.metadata()
    save_file({"velocity/fc8.bias": torch.zeros(2)}, tmp_path / "state.safetensors", about | {"format": OLD_FORMAT})
    with pytest.raises(BadRun, match=r"its format is 'fc7 training state 1', this code reads 'fc7 training state 2'"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadRun, match="free on this disk, a run of this network needs 9000000.0 GB"):
        RunFolder(tmp_path / "run", {}).claim(network=10**15, state=2 * 10**15)
    assert not (tmp_path / "run").exists()


def test_what_a_resume_replaces_counts_as_room_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best network is a second name of an epoch's file: removing it frees the file's size, not twice that."""
    run, epoch = tmp_path / "run", tmp_path / "run" / "epochs" / "0001.safetensors"
    epoch.parent.mkdir(parents=True)
    epoch.write_bytes(bytes(1000))
    files.link(epoch, run / "best.safetensors")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=599))
    folder = RunFolder(run, {}, keep=1)
    with pytest.raises(BadRun, match="0 MB free on this disk, a run of this network needs 0 MB"):
        folder.claim(network=100, state=600)  # 1600: two states, an epoch kept and one written, best and last
    folder.claim(network=100, state=599)
    folder.close()


def test_a_disk_that_fills_up_leaves_the_last_state_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = task()
    trained(tmp_path / "run", of, stop_after=5)
    before = saved(tmp_path / "run")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        BadRun, match="no space left on the disk; make room and run it again: what was finished is kept"
    ):
        trained(tmp_path / "run", of, resume=True)
    monkeypatch.undo()
    assert_same_bits(saved(tmp_path / "run"), before)
    assert not list((tmp_path / "run").rglob("*.part"))


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 9), losses=st.floats(0, 1e6), best=st.floats(0, 1) | st.just(float("inf")))
def test_progress_survives_the_file_to_the_bit(
    step: int, losses: float, best: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("state"), {"seed": 0})
    state = State(
        RunProgress(step, Rates(losses, 0.1), losses, Stalls(best, 1, 2), best, 3.5),
        {"a": torch.ones(2)},
        {"a": torch.zeros(2)},
    )
    folder.save(state)
    found = folder.begin(resume=True)
    assert found is not None
    assert found.progress == state.progress


def test_the_log_has_one_line_an_epoch_however_often_killed(tmp_path: Path, straight: tuple[Path, Seen]) -> None:
    """A line that was written after the state a run goes on from is written again, not twice."""
    _, callback = straight
    log = RunLog(tmp_path, {"seed": 0})
    log.begin(STEPS, 0, 16)
    for epoch in callback.epochs[:2]:
        log.epoch(epoch, torch.rand(8, 3, 3, 3))
    log.path.write_text(log.path.read_text() + '{"kind": "epoch", "torn')
    again = RunLog(tmp_path, {"seed": 0})
    again.begin(STEPS, 8, 16)  # the state knew one epoch
    for epoch in callback.epochs[1:]:
        again.epoch(epoch, torch.rand(8, 3, 3, 3))
    again.end(True)
    assert [line["epoch"] for line in epochs(log.path)] == [1, 2, 3]
    assert json.loads(log.path.read_text().splitlines()[0])["steps"] == STEPS
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((tmp_path / "tensorboard").iterdir())


def test_figure_3_is_sixteen_kernels_a_row_in_one_brightness_range() -> None:
    weights = torch.zeros(96, 3, 11, 11)
    weights[0, 0], weights[95, 2] = -1.0, 3.0
    image = kernels(weights)
    assert image.shape == (4 * (6 * 12 - 1), 4 * (16 * 12 - 1), 3)
    assert image[0, 0].tolist() == [0, 64, 64]  # -1 is the darkest of all, 0 a quarter up
    assert image[-1, -1].tolist() == [64, 64, 255]
    assert image[4 * 11, 4 * 11].tolist() == [255, 255, 255]  # the gap


def test_curves_of_one_epoch(tmp_path: Path, straight: tuple[Path, Seen]) -> None:
    _, callback = straight
    line = json.loads(json.dumps({"kind": "epoch", **asdict(callback.epochs[0])}))
    curves([line], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000
