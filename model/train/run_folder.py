"""The folder of one training run: what is kept so that nothing is lost, and what a kill at any moment leaves whole.

runs/<name>/checkpoint.safetensors  the trained network, written when training is over: its presence says so
            best.safetensors        the network with the lowest validation error
            epochs/0007.safetensors the last few epochs' networks
            state.safetensors       weights, momentum and progress: what --resume goes on from, to the same bits
            log.jsonl               what the run is, then a line an epoch
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

import files
from model import checkpoint
from model.checkpoint import Checkpoint
from model.train.schedule import Rates, Stalls

__all__ = ["BadRun", "RunFolder", "RunProgress", "State"]

FORMAT = "fc7 training state 2"
Json = Mapping[str, Any]


class BadRun(ValueError):
    """A run that cannot start, go on or be written; the message says why and what to do."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; with the weights and momentum buffers, all that its future depends on."""

    step: int = 0  # steps done
    rates: Rates | None = None  # of the last step: the momentum buffers are in their unit
    losses: float = 0.0  # sum of the unfinished epoch's training losses
    stalls: Stalls = field(default_factory=Stalls)
    best: float = inf  # lowest validation error so far
    seconds: float = 0.0  # spent training, over all resumes


@dataclass(frozen=True)
class State:
    """A run between two steps, in the one-process form."""

    progress: RunProgress
    weights: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor]


class RunFolder:
    """Writes and reads one run. `identity` is what must be equal for a run to be the same run: JSON, flat or nested."""

    def __init__(self, path: Path, identity: Json, keep: int = 2) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.keep = keep
        self.final, self.best = path / "checkpoint.safetensors", path / "best.safetensors"
        self.state, self.log = path / "state.safetensors", path / "log.jsonl"

    def begin(self, resume: bool, bytes_of_weights: int) -> State | None:
        """The state to go on from, None for a fresh start. Raises BadRun before anything is written.

        A folder that holds a run is only continued, and only as the run that it is.
        """
        if self.path.exists() and not self.path.is_dir():
            raise BadRun(f"{self.path} is not a folder")
        there = self.state.exists() or self.final.exists() or self.log.exists()
        if there and not resume:
            raise BadRun(f"{self.path} holds a run already: --resume goes on with it, --out starts another elsewhere")
        state = self._read() if self.state.exists() else None
        self._require_space(bytes_of_weights)
        return state

    def done(self) -> bool:
        """Whether the run has reached its end."""
        return self.final.exists()

    def save(self, state: State) -> None:
        """Replace the state in one step. Raises BadRun when the disk does not take it; the old state stays."""
        tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
        tensors |= {f"momentum/{name}": tensor for name, tensor in state.momentum.items()}
        about = {"identity": self.identity, "progress": asdict(state.progress)}
        self._writing(
            lambda: files.replace(self.state, to_bytes(tensors, {"format": FORMAT, "about": json.dumps(about)}))
        )

    def keep_epoch(self, epoch: int, network: Checkpoint, is_best: bool) -> None:
        """Write epoch `epoch`'s network, forget the oldest, and give the best one its name."""
        path = self._epoch(epoch)
        self._writing(lambda: checkpoint.save(path, network))
        if is_best:
            self._writing(lambda: files.link(path, self.best))
        for old in sorted(path.parent.glob("*.safetensors")):
            if int(old.stem) <= epoch - self.keep:
                old.unlink()

    def finish(self, epoch: int) -> None:
        """Epoch `epoch`'s network is the trained one: from now on the run is done."""
        self._writing(lambda: files.link(self._epoch(epoch), self.final))

    def last_good(self) -> Path | None:
        """The newest whole thing that a failed run leaves, best for going back to."""
        epochs = sorted((self.path / "epochs").glob("*.safetensors"))
        return epochs[-1] if epochs else self.state if self.state.exists() else None

    def _epoch(self, epoch: int) -> Path:
        return self.path / "epochs" / f"{epoch:04}.safetensors"

    def _writing(self, write: Callable[[], None]) -> None:
        with files.translated(self.path, BadRun, BadRun):
            self.path.mkdir(parents=True, exist_ok=True)
            write()

    def _read(self) -> State:
        try:
            with safe_open(self.state, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if about.get("format") != FORMAT:
                raise BadRun(f"{self.state}: its format is {about.get('format')!r}, this code reads {FORMAT!r}")
            said = json.loads(about["about"])
            progress = _progress(said["progress"])
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise BadRun(f"{self.state}: not a whole training state ({error}); start over in another --out") from error
        if changed := differences(said["identity"], self.identity):
            raise BadRun(f"{self.path} is another run, so it cannot go on like this: {'; '.join(changed)}")
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "momentum": {}}
        for name, tensor in tensors.items():
            kind, parameter = name.split("/")
            parts[kind][parameter] = tensor
        return State(progress, parts["weights"], parts["momentum"])

    def _require_space(self, bytes_of_weights: int) -> None:
        """State twice over (old and new) with its momentum buffers, kept epochs, the best, the last and one more."""
        existing = next(folder for folder in (self.path, *self.path.resolve().parents) if folder.exists())
        needed = bytes_of_weights * (4 + self.keep + 3)
        kept = sum(file.stat().st_size for file in self.path.rglob("*.safetensors")) if self.path.exists() else 0
        free = shutil.disk_usage(existing).free + kept
        if free < needed:
            raise BadRun(f"{self.path}: {_size(free)} free on this disk, a run of this network needs {_size(needed)}")


def _progress(said: dict[str, Any]) -> RunProgress:
    rates = None if said["rates"] is None else Rates(**said["rates"])
    return RunProgress(**{**said, "rates": rates, "stalls": Stalls(**said["stalls"])})


def differences(then: Json, now: Json, prefix: str = "") -> Sequence[str]:
    """What differs between two descriptions, a phrase each: "recipe.batch was 128, is 64"."""
    found: list[str] = []
    for key in sorted({*then, *now}):
        before, after = then.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} was {before}, is {after}")
    return found


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
