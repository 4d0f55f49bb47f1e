"""What a run is between two steps, as one file: from it a killed run goes on exactly."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from model.train.schedule import Rates, Stalls

__all__ = ["BadRun", "Json", "RunProgress", "State", "differences", "read", "to_bytes"]

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

    def digest(self) -> str:
        """Return the SHA-256 of every tensor and of the progress, but for the seconds: equal, the same future."""
        digest = hashlib.sha256(json.dumps(asdict(replace(self.progress, seconds=0.0))).encode())
        for tensors in (self.weights, self.momentum):
            for name, tensor in sorted(tensors.items()):
                digest.update(name.encode())
                digest.update(tensor.numpy().data)
        return digest.hexdigest()


def to_bytes(state: State, identity: Json) -> bytes:
    """Return the file of `state`, a state of the run that `identity` describes."""
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"momentum/{name}": tensor for name, tensor in state.momentum.items()}
    about = {"identity": identity, "progress": asdict(state.progress)}
    return safetensors_bytes(tensors, {"format": FORMAT, "about": json.dumps(about)})


def read(path: Path, identity: Json) -> State:
    """Read a state. Raises BadRun for a file that is not a whole one, and for a state of another run."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if about.get("format") != FORMAT:
            raise BadRun(f"{path}: its format is {about.get('format')!r}, this code reads {FORMAT!r}")
        said = json.loads(about["about"])
        identity_then, progress = said["identity"], _progress(said["progress"])
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BadRun(f"{path}: not a whole training state ({error}); start over in another --out") from error
    if changed := differences(identity_then, identity):
        raise BadRun(f"{path.parent} is another run, so it cannot go on like this: {'; '.join(changed)}")
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "momentum": {}}
    for name, tensor in tensors.items():
        kind, parameter = name.split("/")
        parts[kind][parameter] = tensor
    return State(progress, parts["weights"], parts["momentum"])


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
