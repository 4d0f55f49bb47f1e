"""Where a run goes on: every process reads the run's folder, and either all of them train or none does."""

from collections.abc import Callable

from model.distributed.placement import Placement
from model.train.run_folder import RunFolder
from model.train.state import BadRun, State

__all__ = ["state_of_all"]


def state_of_all(folder: RunFolder, placement: Placement, *, resume: bool, claim: Callable[[], None]) -> State | None:
    """Return the state to go on from, None for a fresh start; `claim` is called on the main process first.

    Raises BadRun on every process when one of them cannot go on: none is left waiting for the others.
    """
    state, refused = None, None
    try:
        if placement.is_main:
            claim()
        state = folder.begin(resume)
    except BadRun as error:
        refused = error
    for process, reason in enumerate(placement.gather_objects(None if refused is None else str(refused))):
        if reason is not None:
            raise BadRun(reason if process == 0 else f"process {process}: {reason}") from refused
    return state
