"""The published networks as their owners run them, in plain torch, and their files, written by a writer of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import alexnet

from model.network.tables import Dense, Table

Layers = Mapping[str, Sequence[Tensor]]  # conv1 -> weight, bias

CHANNELS = {"conv1": (96, 3, 11), "conv2": (256, 48, 5), "conv3": (384, 256, 3), "conv4": (384, 192, 3)}
CHANNELS["conv5"] = (256, 192, 3)


def narrow(table: Table, fc6: int = 24, fc7: int = 16) -> Table:
    """The table with short hidden layers: all that is particular about these networks is in front of them."""
    *convolutions, sixth, seventh, last = table.rows
    assert isinstance(sixth, Dense)
    assert isinstance(seventh, Dense)
    return replace(table, rows=(*convolutions, replace(sixth, units=fc6), replace(seventh, units=fc7), last))


def loud(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Weights that carry the image to the end (He et al. 2015), so that a difference shows."""
    fan_in = int(np.prod(shape[1:]))
    return torch.empty(*shape).normal_(0.0, (2 / fan_in) ** 0.5, generator=generator)


def caffe_layers(fc6: int, fc7: int, classes: int, seed: int = 0) -> dict[str, list[Tensor]]:
    """bvlc_alexnet's layers with random weights, in Caffe's layout."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {name: (*sides, sides[-1]) for name, sides in CHANNELS.items()}
    shapes |= {"fc6": (fc6, 256 * 6 * 6), "fc7": (fc7, fc6), "fc8": (classes, fc7)}
    return {
        name: [loud(shape, generator), torch.empty(shape[0]).normal_(0.0, 0.5, generator=generator)]
        for name, shape in shapes.items()
    }


def caffe_logits(layers: Layers, images: NDArray[np.uint8], mean: Tensor, kind: torch.dtype) -> Tensor:
    """bvlc_alexnet's deploy.prototxt: RGB images (B, 256, 256, 3), BGR mean (3, 256, 256) -> logits (B, classes)."""
    w = {name: (weight.to(kind), bias.to(kind)) for name, (weight, bias) in layers.items()}
    bgr = torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))).to(kind)
    x = (bgr - mean.to(kind))[:, :, 14:241, 14:241]
    for name, stride, padding, groups in (("conv1", 4, 0, 1), ("conv2", 1, 2, 2)):
        x = F.relu(F.conv2d(x, *w[name], stride=stride, padding=padding, groups=groups))
        x = F.max_pool2d(F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0), 3, 2)
    x = F.relu(F.conv2d(x, *w["conv3"], padding=1))
    x = F.relu(F.conv2d(x, *w["conv4"], padding=1, groups=2))
    x = F.max_pool2d(F.relu(F.conv2d(x, *w["conv5"], padding=1, groups=2)), 3, 2)
    x = F.relu(F.linear(x.flatten(1), *w["fc6"]))
    return F.linear(F.relu(F.linear(x, *w["fc7"])), *w["fc8"])


def torchvision_network(fc6: int, fc7: int, classes: int) -> nn.Module:
    """torchvision's own module, with short hidden layers and weights that carry the image to the end."""
    with torch.device("meta"):
        network: Any = alexnet(weights=None, num_classes=classes)
        for place, (seen, units) in {1: (9216, fc6), 4: (fc6, fc7), 6: (fc7, classes)}.items():
            network.classifier[place] = nn.Linear(seen, units)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            bias = torch.randn(parameter.shape[0], generator=generator) * 0.1
            parameter.copy_(loud(parameter.shape, generator) if parameter.ndim > 1 else bias)
    evaluated: nn.Module = network.eval()
    return evaluated


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def whole(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def chunk(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def raw(tensor: Tensor, kind: str = "<f4") -> bytes:
    return tensor.numpy().astype(kind).tobytes()


def old_blob(tensor: Tensor) -> bytes:
    """num, channels, height, width, as Caffe wrote before 2015."""
    shape = (*[1] * (4 - tensor.ndim), *tensor.shape)
    return b"".join(whole(i, side) for i, side in enumerate(shape, 1)) + chunk(5, raw(tensor))


def new_blob(tensor: Tensor) -> bytes:
    return chunk(7, chunk(1, b"".join(map(varint, tensor.shape)))) + chunk(5, raw(tensor))


ORDER = "data conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 fc6 fc7 fc8"
CAFFENET = ORDER.replace("norm1 pool1", "pool1 norm1").replace("norm2 pool2", "pool2 norm2")


def old_caffemodel(layers: Layers, order: str = ORDER) -> bytes:
    """The published file's form: `layers`, field 2, each with its name (4) and blobs (6)."""
    found = b"".join(
        chunk(2, chunk(4, name) + whole(5, 14) + b"".join(chunk(6, old_blob(blob)) for blob in layers.get(name, ())))
        for name in order.split()
    )
    return chunk(1, "AlexNet") + found


def new_caffemodel(layers: Layers, order: str = ORDER) -> bytes:
    """Today's form: `layer`, field 100, each with its name (1), type (2) and blobs (7)."""
    return chunk(1, "AlexNet") + b"".join(
        chunk(
            100, chunk(1, name) + chunk(2, "Any") + b"".join(chunk(7, new_blob(blob)) for blob in layers.get(name, ()))
        )
        for name in order.split()
    )


def onnx_tensor(name: str, tensor: Tensor, as_raw: bool = True, kind: int = 1) -> bytes:
    dims = b"".join(whole(1, side) for side in tensor.shape)  # not packed, as Caffe2's converter wrote them
    return (
        dims
        + whole(2, kind)
        + (b"" if as_raw else chunk(4, raw(tensor)))
        + chunk(8, name)
        + (chunk(9, raw(tensor)) if as_raw else b"")
    )


def onnx_model(layers: Layers, as_raw: bool = True, nodes: str = "Conv Relu LRN MaxPool Gemm Softmax") -> bytes:
    """The model zoo's bvlc_alexnet: initializers conv1_w_0, conv1_b_0, ..., and a shape of int64 among them."""
    graph = b"".join(chunk(1, chunk(1, "data_0") + chunk(4, node)) for node in nodes.split())
    graph += chunk(2, "bvlc_alexnet")
    for name, blobs in layers.items():
        for part, tensor in zip("wb", blobs, strict=False):
            graph += chunk(5, onnx_tensor(f"{name}_{part}_0", tensor, as_raw))
    graph += chunk(5, whole(1, 2) + whole(2, 7) + chunk(8, "OC2_DUMMY_1") + chunk(9, bytes(16)))
    return whole(1, 3) + chunk(2, "onnx-caffe2") + chunk(7, graph)
