"""The training loop: epochs of steps, a validation after each epoch, and a saved state to resume from.

Everything random is a function of the seed and of the step's or epoch's number. So the weights, the momentum buffers,
the rates of the last step and the number of steps done are all that the rest of a run depends on: they are the state.
On a CPU, or with deterministic algorithms, a resumed run has the bits of one that was never interrupted.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.data.loader import Batch, order, read, window_of
from model.distributed.placement import Placement
from model.preprocess import Recipe
from model.train.callbacks import Callback, Epoch
from model.train.run_folder import RunFolder
from model.train.saving import BackgroundWriter
from model.train.schedule import Rates, schedule_of
from model.train.state import BadRun, RunProgress, State
from model.train.step import Learner, TrainingTask

__all__ = ["Diverged", "Trainer"]

GO_ON, SAVE, STOP, FAIL = 0, 1, 2, 3  # what a process may ask for after a step; the highest wins
LOSS_EVERY = {"cpu": 1, "cuda": 50}  # steps between two reads of the losses: on a GPU each read waits for it


class Diverged(ArithmeticError):
    """The loss is no longer a number; the message names the step, the rate and the last good file."""


class Trainer:
    """One run, from a state to its end.

    An error that one process meets is kept until all processes raise it together: none is left waiting for another.
    """

    def __init__(
        self, task: TrainingTask, placement: Placement, folder: RunFolder, state: State, provenance: Mapping[str, Any]
    ) -> None:
        self.task, self.placement, self.folder, self.provenance = task, placement, folder, provenance
        self.learner = Learner(task, placement, state.weights)
        if state.progress.rates is not None:
            self.learner.optimiser.restore(placement.share(state.momentum), state.progress.rates)
        self.schedule = schedule_of(task.recipe, task.steps, task.validation.labels)
        self.progress = state.progress
        self.started = time.monotonic() - state.progress.seconds
        self.writer = BackgroundWriter()
        self.pending_losses: list[Tensor] = []  # losses since the last read
        self.error: Exception | None = None  # met by this process and not yet raised
        self.rate: tuple[float, float] = (0.0, 0.0)  # images a second and share of time spent waiting, this epoch

    def run(self, callback: Callback, *, save_now: Callable[[], bool], stop: Callable[[], bool]) -> bool:
        """Train to the end. Return True when the final checkpoint is written, False when stopped, with the state saved.

        save_now, stop: called after every step; `stop` on every process, `save_now` on the main one. Raises Diverged,
        BadRun when the disk is full, and what reading the data raises.
        """
        self._attempt(lambda: callback.begin(self.task.steps, self.progress.step, self.task.recipe.batch))
        self._fail_together()
        finished = False
        try:
            with self.writer:
                finished = self._epochs(callback, save_now, stop)
            return finished
        finally:
            callback.end(finished)

    def _epochs(self, callback: Callback, save_now: Callable[[], bool], stop: Callable[[], bool]) -> bool:
        """Train and validate. Return True when the run is over, False when it was stopped before."""
        while not self._over():
            if self.placement.highest(STOP if stop() else GO_ON) == STOP:  # between epochs: all is saved
                return False
            if not self._steps(callback, save_now, stop):
                self._save()
                self._attempt(self.writer.wait)
                self._fail_together()
                return False
            self._close_epoch(callback)
        if self.placement.is_main:
            self._attempt(lambda: self.folder.finish(self.progress.step // self.task.steps_an_epoch))
        self._fail_together()
        return True

    def _attempt(self, job: Callable[[], object]) -> None:
        """Run `job`, and keep its error for `_fail_together`."""
        try:
            job()
        except (BadRun, Diverged) as error:
            self.error = self.error or error

    def _fail_together(self) -> None:
        """Wait until every process is here. Raise, on all of them, the error that one of them has kept."""
        for error in self.placement.gather_objects(self.error):
            if error is not None:
                raise error

    def _over(self) -> bool:
        return self.progress.step >= self.task.steps or self.schedule.ended(self.progress.stalls)

    def _steps(self, callback: Callback, save_now: Callable[[], bool], stop: Callable[[], bool]) -> bool:
        """Train to the end of the epoch. Return False when stopped before it."""
        per_epoch = self.task.steps_an_epoch
        epoch, first = divmod(self.progress.step, per_epoch)
        colour = self.task.recipe.coloured(epoch)
        begun, waited = time.monotonic(), 0.0
        with closing(self._batches(epoch, first)) as batches:
            for place in range(first, per_epoch):
                asked = time.monotonic()
                batch = next(batches)
                waited += time.monotonic() - asked
                rates, number = self._rates(), self.progress.step
                self.pending_losses.append(self.learner.step(batch, number, rates, colour=colour))
                self.progress = replace(self.progress, step=number + 1, rates=rates)
                last = place + 1 == per_epoch
                if last or self.progress.step % LOSS_EVERY[self.placement.device.type] == 0:
                    callback.step(self.progress.step, self._collect_losses(), rates)
                save = SAVE if self.placement.is_main and save_now() else GO_ON
                asked_for = self.placement.highest(FAIL if self.error else STOP if stop() else save)
                if asked_for == FAIL:
                    self._fail_together()
                if last:  # it is saved anyway
                    break
                if asked_for == STOP:
                    return False
                if asked_for == SAVE:
                    self._save()
        spent = time.monotonic() - begun
        self.rate = ((per_epoch - first) * self.task.recipe.batch / spent, waited / spent)
        return True

    def _batches(self, epoch: int, first: int) -> Generator[Batch]:
        """Yield this replica's part of the epoch's batches, from batch `first` on."""
        recipe = self.task.recipe
        mixed = order(self.task.seed, epoch, len(self.task.train), window_of(recipe.stored))
        whole = mixed[: self.task.steps_an_epoch * recipe.batch].reshape(-1, recipe.batch)
        return read(self.task.train, whole[first:, self.learner.rows], recipe.stored, self.placement.device)

    def _rates(self) -> Rates:
        return self.schedule.rates(self.progress.step, self.progress.stalls)

    def _collect_losses(self) -> float:
        """Read the losses since the last read, with one wait for all. Return the newest one. Keep a Diverged."""
        losses = torch.stack(self.pending_losses).double().tolist() if self.pending_losses else []
        self.pending_losses.clear()
        for place, loss in enumerate(losses):
            if not math.isfinite(loss):
                self._diverged(self.progress.step - len(losses) + place)
                break
            self.progress = replace(self.progress, losses=self.progress.losses + loss)
        return losses[-1] if losses else math.nan

    def _diverged(self, step: int) -> None:
        rate = self.schedule.rates(step, self.progress.stalls).weights
        good = self.folder.last_good()
        kept = f"the last good state is {good}" if good else "nothing was saved before"
        error = Diverged(f"the loss is no number any more at step {step} (learning rate {rate:g}); {kept}")
        self.error = self.error or error

    def _close_epoch(self, callback: Callback) -> None:
        """Validate, adapt the schedule, keep the network, call the callbacks, save the state."""
        before, per_epoch = self.progress, self.task.steps_an_epoch
        scores = self.learner.scores()
        self.progress = RunProgress(
            step=before.step,
            rates=before.rates,
            stalls=self.schedule.observe(before.stalls, scores.error),
            best=min(before.best, scores.error),
        )
        losses = self.placement.total(torch.tensor([before.losses], dtype=torch.float64))
        epoch = Epoch(
            epoch=before.step // per_epoch,
            step=before.step,
            rates=self.schedule.rates(before.step - 1, before.stalls),
            loss=losses.item() / self.placement.replicas / per_epoch,
            scores=scores,
            seconds=time.monotonic() - self.started,
            images_per_second=self.rate[0],
            waiting=self.rate[1],
        )
        self._attempt(self.writer.wait)
        weights = self._gathered()
        if self.placement.is_main:
            self._attempt(lambda: self._keep(weights, epoch, scores.error < before.best, callback))
        self._save(weights)
        self._attempt(self.writer.wait)
        self._fail_together()

    def _keep(self, weights: dict[str, Tensor], epoch: Epoch, is_best: bool, callback: Callback) -> None:
        """Write the network of an epoch, then its figures."""
        self.folder.keep_epoch(epoch.epoch, self._checkpoint(weights, epoch), is_best)
        callback.epoch(epoch, weights["conv1.weight"])

    def _gathered(self) -> dict[str, Tensor]:
        """Return all weights in the one-process form, on the main process. Raises Diverged where one is not finite."""
        weights = self.placement.gather(self.learner.weights())
        if not all(tensor.isfinite().all() for tensor in weights.values()):
            self._diverged(self.progress.step - 1)
        self._fail_together()
        return weights

    def _save(self, weights: dict[str, Tensor] | None = None) -> None:
        """Copy the state to the main process, which writes it while training goes on."""
        self._attempt(self.writer.wait)
        self._collect_losses()
        self._fail_together()
        weights = self._gathered() if weights is None else weights
        momentum = self.placement.gather(self.learner.optimiser.momentum())
        losses = self.placement.total(torch.tensor([self.progress.losses], dtype=torch.float64)).item()
        progress = replace(
            self.progress, losses=losses / self.placement.replicas, seconds=time.monotonic() - self.started
        )
        if self.placement.is_main:
            state = State(progress, weights, momentum)
            self.writer.start(lambda: self.folder.save(state))

    def _checkpoint(self, weights: dict[str, Tensor], epoch: Epoch) -> Checkpoint:
        recipe = self.task.recipe
        return Checkpoint(
            table=self.task.table,
            recipe=Recipe(stored=recipe.stored, crop=recipe.crop),
            classes=self.task.classes,
            weights={name: tensor.detach().cpu().numpy() for name, tensor in weights.items()},
            mean_image=self.task.mean_image,
            provenance={**self.provenance, **asdict(epoch)},
        )
