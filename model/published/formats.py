"""Read the files that published AlexNets come in as named tensors: .caffemodel, .binaryproto and ONNX.

A tensor's shape is the file's own: Caffe's older files write a vector of n as (1, 1, 1, n). Field numbers are those of
caffe.proto and onnx.proto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from model.published.protobuf import BadMessage, Message, array, integers, message, messages, text

__all__ = ["Stored", "binaryproto", "caffemodel", "onnx"]

ONNX_FLOAT = 1  # TensorProto.DataType


@dataclass(frozen=True)
class Stored:
    """A network as its file has it: the steps in their order, and each layer's weight and bias, float32."""

    steps: tuple[str, ...]  # of "norm", "pool" and whatever else the file names, lower case
    layers: Mapping[str, Sequence[Tensor]]  # conv1 -> (weight, bias)


def caffemodel(data: bytes) -> Stored:
    """Read a NetParameter: `layer` (field 100) since 2014, `layers` (field 2) before. Raises BadMessage."""
    net = message(memoryview(data))
    now = [(text(found.get(1, [])), found.get(7, [])) for found in messages(net.get(100, []))]
    then = [(text(found.get(4, [])), found.get(6, [])) for found in messages(net.get(2, []))]
    found = now or then
    if not found:
        raise BadMessage("there are no layers in it")
    layers = {name: [_blob(blob, name) for blob in messages(blobs)] for name, blobs in found if blobs}
    return Stored(tuple(name.rstrip("0123456789") for name, _ in found), layers)


def binaryproto(data: bytes) -> Tensor:
    """Read a mean image's BlobProto, usually (1, 3, S, S) in BGR. Raises BadMessage."""
    return _blob(message(memoryview(data)), "the mean")


def onnx(data: bytes) -> Stored:
    """Read a ModelProto's initializers, named as by Caffe2's converter: conv1_w_0, conv1_b_0. Raises BadMessage."""
    graphs = list(messages(message(memoryview(data)).get(7, [])))
    if not graphs:
        raise BadMessage("there is no graph in it")
    kinds = [text(node.get(4, [])) for node in messages(graphs[0].get(1, []))]
    tensors = {text(tensor.get(8, [])): tensor for tensor in messages(graphs[0].get(5, []))}
    layers = {
        name.removesuffix("_w_0"): [_tensor(tensors[key], key) for key in (name, name[:-3] + "b_0") if key in tensors]
        for name in tensors
        if name.endswith("_w_0")
    }
    return Stored(tuple({"LRN": "norm", "MaxPool": "pool"}.get(kind, kind.lower()) for kind in kinds), layers)


def _blob(blob: Message, name: str) -> Tensor:
    """BlobProto: its shape, or num x channels x height x width before there was one; float or double data."""
    shapes = list(messages(blob.get(7, [])))
    shape = integers(shapes[-1].get(1, [])) if shapes else tuple(integers(blob.get(i, [0]))[-1] for i in (1, 2, 3, 4))
    values = array(blob[8], "<f8") if 8 in blob else array(blob.get(5, []), "<f4")
    return _shaped(torch.from_numpy(values), shape, name)


def _tensor(tensor: Message, name: str) -> Tensor:
    """TensorProto: dims, then float32 as raw bytes or as a packed field."""
    kind = integers(tensor.get(2, [0]))[-1]
    if kind != ONNX_FLOAT:
        raise BadMessage(f"{name} has ONNX element type {kind}; only float32 ({ONNX_FLOAT}) is read")
    values = array(tensor[9] if 9 in tensor else tensor.get(4, []), "<f4")
    return _shaped(torch.from_numpy(values), integers(tensor.get(1, [])), name)


def _shaped(values: Tensor, shape: Sequence[int], name: str) -> Tensor:
    if prod(shape) != len(values) or not all(shape):
        raise BadMessage(f"{name} should hold {' x '.join(map(str, shape))} numbers and holds {len(values):,}")
    return values.to(torch.float32).reshape(*shape)
