"""A layer table and its weights as an OpenVINO graph, built through NumPy.

A column is a branch of the graph from the image to the layer that reads both columns, as it was a GPU of its own in
2012. One grouped convolution for both would make the graph smaller, but the response norm, which does not reach from
one column into the other, would then have to divide the maps, and OpenVINO is slow at that. Only where the norm does
reach across (Caffe's network) there is one branch.
"""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from model.checkpoint import Checkpoint
from model.network.tables import Conv, ResponseNorm, Step, Table

__all__ = ["graph_of"]

CHANNELS, HEIGHT, WIDTH = 1, 2, 3  # axes of the maps (B, C, H, W)
Maps = Any  # a node of the graph, or one of its outputs


def graph_of(checkpoint: Checkpoint) -> ov.Model:
    """Return a graph: float32 (B, C, C, 3), any B -> logits (B, classes), last hidden layer after ReLU (B, F).

    The weights must be the table's (`check_weights`). The graph reads them where they are, so they must not change.
    """
    table, weights = checkpoint.table, checkpoint.weights
    image = op.parameter([-1, table.crop, table.crop, 3], np.float32)
    x = op.transpose(image, op.constant(np.array([0, 3, 1, 2])))
    if table.input_scale != 1.0:
        x = op.multiply(x, _constant(np.array(table.input_scale)))
    branches: list[Maps] = [x]
    for name, row in table.named.items():
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if isinstance(row, Conv):
            branches = _convolved(branches, row, weight, bias, table)
            for step in row.then:
                branches = [_step(step, maps, table) for maps in branches]
            continue
        embedding = op.reshape(_joined(branches), op.constant(np.array([0, -1])), special_zero=True)
        scale = table.test_scales[name]
        read = embedding if scale == 1.0 else op.multiply(embedding, _constant(np.array(scale)))
        logits = op.add(op.matmul(read, _constant(weight), False, True), _constant(bias[None]))
        branches = [op.relu(logits)]
    return ov.Model([op.result(logits), op.result(embedding)], [image], table.name)


def _convolved(
    branches: list[Maps], row: Conv, weight: NDArray[np.float32], bias: NDArray[np.float32], table: Table
) -> list[Maps]:
    """The maps of every branch after the convolution."""
    count = 1 if table.norm_crosses else table.columns
    groups = table.columns // count if row.sees == "own" else 1
    read = branches if row.sees == "own" else [_joined(branches)] * count
    left, right, above, below = row.sides
    window = [row.stride] * 2, [above, left], [below, right], [1, 1]
    out: list[Maps] = []
    for maps, kernels, biases in zip(read, np.split(weight, count), np.split(bias, count), strict=True):
        if groups == 1:
            sums = op.convolution(maps, _constant(kernels), *window)
        else:
            sums = op.group_convolution(maps, _constant(kernels.reshape(groups, -1, *kernels.shape[1:])), *window)
        out.append(op.add(sums, _constant(biases.reshape(1, -1, 1, 1))))
    return out


def _step(step: Step, maps: Maps, table: Table) -> Maps:
    match step:
        case "relu":
            return op.relu(maps)
        case "pool":
            return op.max_pool(maps, [2, 2], [1, 1], [0, 0], [0, 0], [3, 3]).output(0)
        case "norm":
            return _normalised(maps, table.norm, [CHANNELS])
        case "map_norm":
            return _normalised(maps, table.map_norm, [HEIGHT, WIDTH])


def _normalised(x: Maps, norm: ResponseNorm, axes: list[int]) -> Maps:
    """Section 3.3. OpenVINO divides alpha by the number of values in a window, the formula does not.

    On a CPU it also cuts k to a whole number; another k is taken out: (k + s)^-beta = k^-beta (1 + s / k)^-beta.
    """
    alpha, where = norm.alpha * norm.size ** len(axes), op.constant(np.array(axes))
    if norm.k % 1 == 0:
        return op.lrn(x, where, alpha, norm.beta, norm.k, norm.size)
    return op.multiply(
        op.lrn(x, where, alpha / norm.k, norm.beta, 1.0, norm.size), _constant(np.array(norm.k**-norm.beta))
    )


def _joined(branches: list[Maps]) -> Maps:
    return op.concat(branches, CHANNELS) if len(branches) > 1 else branches[0]


def _constant(values: NDArray[Any]) -> Maps:
    """A constant in the array's own memory where that is possible; the graph keeps the array."""
    return op.constant(np.require(values, np.float32, ["C", "W"]), shared_memory=True)
