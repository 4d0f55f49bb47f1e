"""The forms of the forward pass that are compared. Each is opened, and timed, in a process of its own.

So every form has the memory settings that it is used with, and the idle threads of no other library beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.allocator import keep_freed_memory
from model.checkpoint import Checkpoint, load
from model.device import choose_device
from model.embed import Embedder
from model.forward.torch_engine import network_of
from model.precision import full_float32
from model.preprocess import EmbeddingPrecision
from scripts.benchmarks.train import Plain

__all__ = ["BEFORE", "PEERS", "Form", "outputs", "round_of"]

Pixels = NDArray[np.float32]  # (B, 3, C, C), or channels last for fc7: what is next to a form's own layout
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits (B, classes), last hidden layer (B, F)
Infer = Callable[[Pixels], Outputs]

PEERS = {"ONNX Runtime": ("onnxruntime", "onnx"), "OpenVINO straight": ("openvino", "onnx")}  # what each needs
BEFORE = "fc7 as it was (torch, 64 at once, memory not kept)"
BATCH_BEFORE = 64


@dataclass(frozen=True)
class Form:
    """A way to run a checkpoint's network."""

    name: str  # "fc7, <engine>", BEFORE, a peer's, or that of plain torch
    precision: EmbeddingPrecision
    device: str

    @property
    def ours(self) -> bool:
        return self.name.startswith("fc7")


def round_of(form: Form, file: Path, batch: int, passes: int) -> int:
    """Take batches of noise through the network, `passes` of them, and return how many images that were."""
    infer, x = opened(form, file), noise(form, file, batch)
    for _ in range(passes):
        infer(x)
    return batch * passes


def outputs(form: Form, file: Path, batch: int) -> Outputs:
    """Return what the form gives for a batch of noise."""
    return opened(form, file)(noise(form, file, batch))


@cache
def noise(form: Form, file: Path, batch: int) -> Pixels:
    """Network input of the same numbers for every form."""
    crop = load(file).table.crop
    x = np.random.default_rng(0).standard_normal((batch, 3, crop, crop), np.float32) * 60
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if form.ours else x


@cache
def opened(form: Form, file: Path) -> Infer:
    """Return the form, ready to run. Raises BadCheckpoint, NoSuchDevice, NoSuchEngine."""
    read = load(file)
    checkpoint = replace(read, recipe=replace(read.recipe, precision=form.precision))
    if form.ours and form.name != BEFORE:
        keep_freed_memory()  # as scripts/build_index.py does
    match form.name:
        case "ONNX Runtime":
            return onnx_runtime(file.with_suffix(".onnx"))
        case "OpenVINO straight":
            return openvino_straight(file.with_suffix(".onnx"), form.precision)
        case _ if form.ours:
            return fc7(checkpoint, form)
        case _:
            return plain_torch(checkpoint, form)


def fc7(checkpoint: Checkpoint, form: Form) -> Infer:
    """The Embedder's network, in its batches."""
    engine: Any = "torch" if form.name == BEFORE else form.name.removeprefix("fc7, ")
    embedder = Embedder(checkpoint, form.device, engine)
    size = BATCH_BEFORE if form.name == BEFORE else embedder.batch

    def infer(x: Pixels) -> Outputs:
        found = [one_pass(embedder, x[start : start + size]) for start in range(0, len(x), size)]
        logits, features = zip(*found, strict=True)
        return np.concatenate(logits), np.concatenate(features)

    return infer


def one_pass(embedder: Embedder, x: Pixels) -> Outputs:
    """(B, C, C, 3) -> logits, features."""
    logits, features = embedder.forward(embedder.forward.array(x).swapaxes(1, 3).swapaxes(2, 3))
    return logits, features


def plain_torch(checkpoint: Checkpoint, form: Form) -> Infer:
    """The tutorials' network; bfloat16 by autocast (torch has no bfloat16 for F.local_response_norm on a CPU)."""
    device, half = choose_device(form.device), form.precision == "bfloat16"
    network = Plain(network_of(checkpoint)).eval().to(device)

    @torch.inference_mode()
    def infer(x: Pixels) -> Outputs:
        with full_float32(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits, hidden = network(torch.from_numpy(x).to(device))
        return logits.float().cpu().numpy(), hidden.float().cpu().numpy()

    return infer


def onnx_runtime(file: Path) -> Infer:
    """ONNX Runtime as it comes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def infer(x: Pixels) -> Outputs:
        logits, hidden = session.run(None, {"x": x})
        return logits, hidden

    return infer


def openvino_straight(file: Path, precision: EmbeddingPrecision) -> Infer:
    """OpenVINO as it comes, in this precision."""
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": hint})

    def infer(x: Pixels) -> Outputs:
        found = compiled([x])
        return found[0], found[1]

    return infer
