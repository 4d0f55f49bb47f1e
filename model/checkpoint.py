"""A trained network as one file: weights, layer table, recipe, classes and where they came from.

It is a safetensors file, always in the one-process form, so any number of processes can write or read it. It is
replaced in one step: a reader finds the old file or the new one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

import files
from model.network.alexnet import AlexNet
from model.network.tables import Conv, Dense, ResponseNorm, Table
from model.preprocess import Recipe

__all__ = ["BadCheckpoint", "Checkpoint", "load", "save"]

FORMAT = "fc7 checkpoint 1"
MEAN = "mean_image"  # the one tensor in the file that is not a weight


class BadCheckpoint(ValueError):
    """The file is not a checkpoint of this project, is damaged, or does not fit what is asked of it."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to turn an image's bytes into class probabilities and an embedding."""

    table: Table
    recipe: Recipe
    classes: tuple[str, ...]
    weights: Mapping[str, Tensor]  # conv1.weight ... fc8.bias, float32, one-process form
    mean_image: Tensor  # float32 (S, S, 3), RGB, 0-255
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON: data, epochs, accuracy, versions, ...

    def network(self) -> AlexNet:
        """Return the network with these weights. Raises BadCheckpoint when the weights are not the table's."""
        with torch.device("meta"):
            network = AlexNet(self.table, len(self.classes))
        try:
            network.load_state_dict({name: tensor.clone() for name, tensor in self.weights.items()}, assign=True)
        except RuntimeError as error:
            reason = "; ".join(line.strip() for line in str(error).splitlines()[1:])
            raise BadCheckpoint(f"the weights are not those of table {self.table.name!r}: {reason}") from error
        return network

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of "weights" (and the mean image) and of "recipe" (and table and classes).

        Two checkpoints with equal fingerprints give the same answers.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted({**self.weights, MEAN: self.mean_image}.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        recipe = json.dumps(_description(self), sort_keys=True).encode()
        return {"weights": digest.hexdigest(), "recipe": hashlib.sha256(recipe).hexdigest()}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all. Raises OSError (disk full, say); the old file stays."""
    about = {**_description(checkpoint), "provenance": dict(checkpoint.provenance)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    data = to_bytes(
        {**tensors, MEAN: checkpoint.mean_image.cpu().contiguous()},
        metadata={"format": FORMAT, "about": json.dumps(about, sort_keys=True)},
    )
    files.make_folder(path.parent)
    files.replace(path, data)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises BadCheckpoint, saying what is wrong, for any file that is not a whole one."""
    if not path.is_file():
        raise BadCheckpoint(f"{path}: no such checkpoint (scripts/train.py writes one)")
    try:
        path.open("rb").close()  # safe_open says of a file that may not be read that it is missing
    except OSError as error:
        raise BadCheckpoint(f"{path}: cannot be read: {error.strerror}") from error
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path}: not a whole safetensors file: {error}") from error
    if broken := next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None):
        raise BadCheckpoint(f"{path}: {broken} holds a number that is not finite: the file is damaged")
    if about.get("format") != FORMAT:
        raise BadCheckpoint(f"{path}: its format is {about.get('format')!r}, this code reads {FORMAT!r}")
    try:
        described = json.loads(about["about"])
        return Checkpoint(
            table=_table(described["table"]),
            recipe=Recipe(**described["recipe"]),
            classes=tuple(described["classes"]),
            mean_image=tensors.pop(MEAN),
            weights=tensors,
            provenance=described["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{path}: its description cannot be read: {error!r}") from error


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "table": {**asdict(checkpoint.table), "rows": [_row(row) for row in checkpoint.table.rows]},
        "recipe": asdict(checkpoint.recipe),
        "classes": list(checkpoint.classes),
    }


def _row(row: Conv | Dense) -> dict[str, Any]:
    """A row as JSON, in the form of the first checkpoints, so that a network's fingerprint stays what it was.

    Steps are words in one string, padding is four numbers, and `scaling` is left out where it is "train".
    """
    described = {"kind": type(row).__name__, **asdict(row)}
    if isinstance(row, Conv):
        described |= {"then": " ".join(row.then), "padding": row.sides}
    elif row.scaling == "train":
        del described["scaling"]
    return described


def _table(described: dict[str, Any]) -> Table:
    rows: list[Conv | Dense] = []
    for row in described.pop("rows"):
        kind = row.pop("kind")
        rows.append(_conv(**row) if kind == "Conv" else Dense(**row))
    norm, map_norm = (ResponseNorm(**described.pop(name)) for name in ("norm", "map_norm"))
    return Table(rows=tuple(rows), norm=norm, map_norm=map_norm, **described)


def _conv(*, then: str, padding: Sequence[int], **row: Any) -> Conv:
    left, right, above, below = padding
    even = left == right == above == below
    steps: Any = tuple(then.split())  # Conv refuses words that are no steps
    return Conv(**row, then=steps, padding=left if even else (left, right, above, below))
