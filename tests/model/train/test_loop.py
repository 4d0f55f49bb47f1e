"""The loop learns, saves what it says, goes on to the same bits from any step, and stops in words when it must."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint
from model.data.loader import Batch
from model.distributed.placement import OneProcess
from model.train.loop import Diverged, Trainer
from model.train.recipes import CIFAR, PAPER
from model.train.run_folder import RunFolder
from model.train.schedule import Rates, clearly_below_chance
from model.train.state import State, read
from model.train.step import Learner
from tests.model.train.runs import CPU, STEPS, Seen, assert_same_bits, saved, trained
from tests.model.train.tasks import Stripes, fresh, task


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
    for name, array in final.weights.items():
        np.testing.assert_array_equal(array, state.weights[name].numpy())


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
