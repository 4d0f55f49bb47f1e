"""Where a run goes on: every process reads the run's folder, and either all of them train or none does."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from model.distributed.placement import Placement
from model.train.run_folder import RunFolder
from model.train.state import BadRun, Json, State, differences

__all__ = ["state_of_all"]


@dataclass(frozen=True)
class _Found:
    """What one process is asked to train, and found in the run's folder."""

    identity: Json = field(default_factory=dict)
    step: int = 0
    digest: str = ""  # of the state; empty where there is none
    done: bool = False
    refused: str | None = None  # why this process cannot go on

    def __str__(self) -> str:
        if self.done:
            return "a finished run"
        return f"step {self.step} (state {self.digest[:8]})" if self.digest else "no state"


def state_of_all(folder: RunFolder, placement: Placement, *, resume: bool, claim: Callable[[], None]) -> State | None:
    """Return the state to go on from, None for a fresh start; `claim` is called on the main process first.

    Raises BadRun on every process when one of them cannot go on, would train another run than the main process (in
    another precision, say, on a machine that has no bf16), or found another state, on a disk of its own: none is left
    waiting for the others, and none trains from another step.
    """
    state, error = None, None
    try:
        if placement.is_main:
            claim()
        state = folder.begin(resume)
        found = _Found(identity=folder.identity, done=folder.done())
        if state is not None:
            found = replace(found, step=state.progress.step, digest=state.digest())
    except (BadRun, OSError) as refused:
        error, found = refused, _Found(refused=str(refused))
    everyone = placement.gather_objects(found)
    for process, theirs in enumerate(everyone):
        if theirs.refused is not None:
            raise BadRun(theirs.refused if process == 0 else f"process {process}: {theirs.refused}") from error
    for process, theirs in enumerate(everyone):
        if changed := differences(everyone[0].identity, theirs.identity):
            raise BadRun(f"process {process} would train another run than process 0: {'; '.join(changed)}")
        if theirs != everyone[0]:
            raise BadRun(
                f"{folder.path}: process {process} found {theirs}, process 0 found {everyone[0]}: all must see one "
                "folder; put it on a disk that every machine shares"
            )
    return state
