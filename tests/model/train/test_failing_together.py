"""An error that one process meets ends all of them, with the same line: none is left waiting in a collective."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from model.distributed.placement import Placement
from model.distributed.rendezvous import join
from model.train.loop import Diverged, Trainer
from model.train.run_folder import RunFolder
from model.train.state import BadRun
from model.train.step import Learner
from tests.model.train.runs import CPU, Seen
from tests.model.train.tasks import TINY, fresh, task
from tests.ranks import on_ranks

BREAKS = [(Seen, "begin"), (RunFolder, "save"), (RunFolder, "keep_epoch"), (Seen, "epoch"), (RunFolder, "finish")]
NO_NUMBER = [(0, 3), (1, 3), (1, 5)]  # process and step; step 5 is an epoch's last


def ends(path: Path, broken: list[Callable[[], AbstractContextManager[object]]]) -> list[str]:
    """Train on this process, with each of `broken` in turn. Return what each run ended with."""
    with join("columns", table=TINY, classes=2, batch=16, device=CPU, settings={}, log=print) as placement:
        return [end(path / str(number), placement, way) for number, way in enumerate(broken)]


def end(path: Path, placement: Placement, broken: Callable[[], AbstractContextManager[object]]) -> str:
    of, callback = task(), Seen()
    trainer = Trainer(of, placement, RunFolder(path, {}), fresh(of), {})
    with broken():
        try:
            trainer.run(callback, save_now=lambda: max(callback.losses) == 2, stop=lambda: False)
        except (BadRun, Diverged) as error:
            return str(error)
        finally:
            placement.highest(0)  # the answer that the run did not wait for
    return "trained"


def written_by_the_main_process(path: Path) -> list[str]:
    def breaks(of: type[object], method: str) -> Callable[[], AbstractContextManager[object]]:
        problem = BadRun(f"the disk takes no {method}") if os.environ["RANK"] == "0" else None
        return lambda: patch.object(of, method, side_effect=problem)

    return ends(path, [breaks(of, method) for of, method in BREAKS])


def diverged(path: Path) -> list[str]:
    real = Learner.step

    def breaks(rank: int, step: int) -> Callable[[], AbstractContextManager[object]]:
        def bad(self: Learner, batch: object, number: int, *more: object, **named: object) -> Tensor:
            loss = real(self, batch, number, *more, **named)  # type: ignore[arg-type]
            mine = os.environ["RANK"] == str(rank) and number == step
            return torch.full_like(loss, torch.nan) if mine else loss

        return lambda: patch.object(Learner, "step", bad)

    return ends(path, [breaks(rank, step) for rank, step in NO_NUMBER])


def test_what_the_main_process_cannot_write_ends_all(tmp_path: Path) -> None:
    main, other = on_ranks(2, written_by_the_main_process, tmp_path, time_out=60)
    assert main == other == [f"the disk takes no {method}" for _, method in BREAKS]


def test_a_loss_that_is_no_number_on_one_process_ends_all(tmp_path: Path) -> None:
    main, other = on_ranks(2, diverged, tmp_path, time_out=60)
    assert main == other
    for line, (_, step) in zip(main, NO_NUMBER, strict=True):
        assert line.startswith(f"the loss is no number any more at step {step} ")
