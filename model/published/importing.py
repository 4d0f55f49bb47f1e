"""Turn a published file into a checkpoint: recognise its format, read weights, mean image and classes."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.data.class_names import names_in_lines
from model.data.packed import PackedSet
from model.network.tables import Table
from model.preprocess import Recipe
from model.provenance import commit
from model.published.formats import Stored, binaryproto, caffemodel, onnx
from model.published.homes import HOMES
from model.published.protobuf import BadMessage
from model.published.tables import (
    CAFFE,
    CAFFE_MEAN,
    TORCHVISION,
    TORCHVISION_MEAN,
    BadWeights,
    from_caffe,
    from_torchvision,
)

__all__ = ["Kind", "imported"]

Kind = Literal["auto", "caffe", "onnx", "torchvision"]
STORED = 256  # pixels: both networks were trained on crops of 256 x 256


def imported(
    source: Path,
    kind: Kind = "auto",
    mean: Path | None = None,
    classes: Path | None = None,
    *,
    caffe: Table = CAFFE,
    torchvision: Table = TORCHVISION,
) -> Checkpoint:
    """Read a published network. Raises BadWeights, with the file's name, for anything else.

    mean: .binaryproto or .npy in Caffe's BGR order; without it, the means of Caffe's own mean image. torchvision's
    network has constants of its own. classes: a text file with a name a line, or a packed dataset, whose classes are
    taken in their order; without it the published file's own (`Home.classes`), and "class 0", "class 1", ... for any
    other file. Raises BadDataset for a damaged dataset. caffe, torchvision: the tables that the file must fit.
    """
    data = _read(source)
    kind = _kind(data, source) if kind == "auto" else kind
    table = torchvision if kind == "torchvision" else caffe
    try:
        if kind == "torchvision":
            weights = from_torchvision(_state_dict(source), table)
        else:
            weights = from_caffe(_in_paper_order(caffemodel(data) if kind == "caffe" else onnx(data)).layers, table)
    except (BadMessage, BadWeights) as error:
        raise BadWeights(f"{source}: {error}") from error
    count = weights[f"{table.last}.bias"].numel()
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(
        table=table,
        recipe=Recipe(stored=STORED, crop=table.crop),
        classes=_published_classes(kind, source, count) if classes is None else _classes(classes, count),
        weights={name: tensor.to(torch.float32).numpy() for name, tensor in weights.items()},
        mean_image=_mean(kind, mean).numpy(),
        provenance={"imported": kind, "file": source.name, "sha256": digest, "commit": commit()},
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadWeights(f"{path}: cannot be read: {error.strerror}") from error


def _kind(data: bytes, source: Path) -> Kind:
    """Tell the format by the first byte: of a zip or pickle, of ONNX's version, of a Caffe network's name or layer."""
    if data.startswith((b"PK\x03\x04", b"\x80")):
        return "torchvision"
    if data.startswith(b"\x08"):
        return "onnx"
    if data.startswith((b"\x0a", b"\x12", b"\xa2\x06")):
        return "caffe"
    raise BadWeights(f"{source}: neither a .caffemodel, nor an ONNX model, nor a PyTorch state dict")


def _in_paper_order(stored: Stored) -> Stored:
    """Refuse CaffeNet: it has the same layers and shapes, but pools before it normalises. Raises BadWeights."""
    steps = stored.steps
    if "norm" in steps and "pool" in steps and steps.index("pool") < steps.index("norm"):
        raise BadWeights("this network pools before it normalises: CaffeNet, not AlexNet")
    return stored


def _state_dict(source: Path) -> dict[str, Any]:
    """Read a state dict. Raises BadWeights."""
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)  # any other pickle can run any program
    except Exception as error:  # foreign bytes make its readers raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadWeights(f"not a whole PyTorch file: {reason}") from error
    if not isinstance(state, dict):
        raise BadWeights(f"it holds a {type(state).__name__}, not a state dict")
    return state


def _mean(kind: Kind, path: Path | None) -> Tensor:
    """The mean image, float32 (S, S, 3) RGB. Raises BadWeights."""
    if path is None:
        colour = torch.tensor(TORCHVISION_MEAN if kind == "torchvision" else CAFFE_MEAN)
        return colour.expand(STORED, STORED, 3).contiguous()
    if kind == "torchvision":
        raise BadWeights(f"{path}: torchvision's network has its own constants for a mean; none can be given")
    data = _read(path)
    try:
        bgr = _numbers(path) if path.suffix == ".npy" else binaryproto(data)
    except (BadMessage, ValueError, EOFError, TypeError) as error:
        raise BadWeights(f"{path}: not a mean image: {error}") from error
    sides = tuple(bgr.shape[1:]) if bgr.ndim == 4 and len(bgr) == 1 else tuple(bgr.shape)
    if sides not in ((3, STORED, STORED), (3, 1, 1), (3,)):
        raise BadWeights(f"{path}: a mean of {tuple(bgr.shape)}, not of 3 x {STORED} x {STORED} pixels or 3 colours")
    if not bgr.isfinite().all() or bgr.min() < 0 or bgr.max() > 255:
        raise BadWeights(f"{path}: a mean's values lie between 0 and 255; these do not")
    image = bgr.to(torch.float32).reshape(3, *sides[1:] or (1, 1)).expand(3, STORED, STORED)
    return image.flip(0).permute(1, 2, 0).contiguous()


def _numbers(path: Path) -> Tensor:
    """NumPy's array of real numbers of any type as float32. Raises ValueError, EOFError and TypeError for others."""
    return torch.from_numpy(np.asarray(np.load(path, allow_pickle=False)).astype(np.float32, casting="same_kind"))


def _published_classes(kind: Kind, source: Path, count: int) -> tuple[str, ...]:
    home = HOMES["torchvision" if kind == "torchvision" else "bvlc"]()
    if home.published.digest.of(source):
        return home.classes
    return tuple(f"class {number}" for number in range(count))


def _classes(path: Path, count: int) -> tuple[str, ...]:
    if path.is_dir():
        names = PackedSet.open(path).classes
    else:
        try:
            names = names_in_lines([line.strip() for line in _read(path).decode().splitlines()])
        except UnicodeDecodeError as error:
            raise BadWeights(f"{path}: not a text file") from error
    if len(names) != count or not all(names):
        raise BadWeights(f"{path}: {len(names)} names ({names.count('')} empty), for a network of {count} classes")
    return names
