"""From a command line's words to a run: read the dataset, check everything, make or read the state, train."""

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial

from model.checkpoint import load
from model.data.packed import PackedSet
from model.device import choose_device, device_name
from model.distributed.placement import Placement
from model.distributed.rendezvous import join
from model.network.tables import TABLES
from model.precision import deterministic
from model.train.callbacks import Callback, Callbacks
from model.train.config import TrainConfig, recipe_of
from model.train.log import RunLog
from model.train.loop import Trainer
from model.train.prepare import Prepared, prepare
from model.train.resume import state_of_all
from model.train.run_folder import RunFolder
from model.train.saving import Every
from model.train.step import TrainingTask

__all__ = ["train"]


def train(config: TrainConfig, callback: Callback, *, stop: Callable[[], bool], log: Callable[[str], None]) -> bool:
    """Train or resume in this process. Return True when the run is finished, False when it was stopped.

    log: takes the lines that a person should read, on the main process. Raises BadRun, BadDataset, BadCheckpoint,
    NoSuchDevice, NotDeterministic, LayoutError and Diverged, each with one clear line.
    """
    origin = None if config.init_from is None else load(config.init_from)
    recipe = recipe_of(config, origin)
    packed, device = PackedSet.open(config.data), choose_device(config.device)
    joined = join(
        config.parallel,
        table=TABLES[config.preset] if origin is None else origin.table,
        classes=len(packed.classes),
        batch=recipe.batch,
        device=device,
        # "auto" may be a GPU here and the CPU on a machine whose driver fails.
        settings=asdict(config) | {"fingerprint": packed.fingerprint, "device": device.type},
        log=log,
    )
    with deterministic(device) if config.deterministic else nullcontext(), joined as placement:
        prepared = prepare(config, recipe, origin, packed, placement.device)
        with closing(RunFolder(config.out, prepared.identity, config.keep)) as folder:
            return _train(config, prepared, folder, placement, callback, stop, log if placement.is_main else _silent)


def _train(
    config: TrainConfig,
    prepared: Prepared,
    folder: RunFolder,
    placement: Placement,
    callback: Callback,
    stop: Callable[[], bool],
    log: Callable[[str], None],
) -> bool:
    claim = partial(folder.claim, prepared.checkpoint_bytes, prepared.state_bytes)
    state = state_of_all(folder, placement, resume=config.resume, claim=claim)
    if folder.done():
        log(f"trained already: {folder.final}")
        return True
    log(_summary(prepared.task, placement))
    if state is None and prepared.redrawn:
        log(f"{prepared.redrawn} is drawn anew: the classes are not the checkpoint's")
    trainer = Trainer(prepared.task, placement, folder, state or prepared.start, prepared.provenance)
    callbacks: Sequence[Callback] = [RunLog(config.out, prepared.provenance), callback] if placement.is_main else []
    finished = trainer.run(Callbacks(callbacks), save_now=Every(60 * config.save_minutes), stop=stop)
    if finished:
        log(f"trained: {folder.final}")
    elif folder.state.exists():
        log(f"stopped and saved: {folder.state}; --resume goes on")
    else:
        log("stopped before the first step; --resume begins again")
    return finished


def _summary(task: TrainingTask, placement: Placement) -> str:
    """Return what is trained on what, in one line."""
    precision = "bf16" if task.bf16 else "fp32"
    compiled = "compiled" if placement.compiled else "not compiled"
    return (
        f"training on {device_name(placement.device)}, {precision}, {compiled}: {len(task.train)} images, "
        f"{len(task.validation)} to validate on, {task.steps} steps of {task.recipe.batch}"
    )


def _silent(line: str) -> None:
    del line
