"""A trained network as one file: weights, layer table, recipe, classes and where they came from.

It is a safetensors file, always in the one-process form, so any number of processes can write or read it. It is
replaced in one step: a reader finds the old file or the new one. Its tensors are NumPy arrays, so that answering on a
CPU does not import torch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

import files
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
    weights: Mapping[str, NDArray[np.float32]]  # conv1.weight ... fc8.bias, one-process form
    mean_image: NDArray[np.float32]  # (S, S, 3), RGB, 0-255
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON: data, epochs, accuracy, versions, ...

    def check_weights(self) -> None:
        """Raise BadCheckpoint when the weights are not those of the table and the classes."""
        wanted = self.table.shapes(len(self.classes))
        found = {name: array.shape for name, array in self.weights.items()}
        wrong = [f"no {name}" for name in wanted if name not in found]
        wrong += [f"{name}, which is not in the table" for name in found if name not in wanted]
        wrong += [
            f"{name} {found[name]}, not {wanted[name]}"
            for name in wanted
            if found.get(name) not in (None, wanted[name])
        ]
        if wrong:
            raise BadCheckpoint(f"the weights are not those of table {self.table.name!r}: {'; '.join(wrong)}")

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of "weights" (and the mean image) and of "recipe" (and table and classes).

        Two checkpoints with equal fingerprints give the same answers.
        """
        digest = hashlib.sha256()
        for name, array in sorted({**self.weights, MEAN: self.mean_image}.items()):
            digest.update(f"{name} torch.{array.dtype} {array.shape}\n".encode())  # as when they were torch's
            digest.update(np.ascontiguousarray(array).data)
        recipe = json.dumps(_description(self), sort_keys=True).encode()
        return {"weights": digest.hexdigest(), "recipe": hashlib.sha256(recipe).hexdigest()}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all. Raises OSError (disk full, say); the old file stays."""
    about = {**_description(checkpoint), "provenance": dict(checkpoint.provenance)}
    arrays = {**checkpoint.weights, MEAN: checkpoint.mean_image}
    data = to_bytes(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
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
        with safe_open(path, framework="np") as file:
            about, names = file.metadata() or {}, file.keys()
            types = {name: file.get_slice(name).get_dtype() for name in names}
            if other := next((f"{name} is {kind}" for name, kind in types.items() if kind != "F32"), None):
                raise BadCheckpoint(f"{path}: {other}; only F32 (float32) is read")  # NumPy has no bfloat16 to read
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path}: not a whole safetensors file: {error}") from error
    if broken := next((name for name, array in arrays.items() if not np.isfinite(array).all()), None):
        raise BadCheckpoint(f"{path}: {broken} holds a number that is not finite: the file is damaged")
    if about.get("format") != FORMAT:
        raise BadCheckpoint(f"{path}: its format is {about.get('format')!r}, this code reads {FORMAT!r}")
    try:
        described = json.loads(about["about"])
        return Checkpoint(
            table=_table(described["table"]),
            recipe=Recipe(**described["recipe"]),
            classes=tuple(described["classes"]),
            mean_image=arrays.pop(MEAN),
            weights=arrays,
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
