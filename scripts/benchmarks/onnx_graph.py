"""The network in ONNX's own operators, as ONNX Runtime and OpenVINO read it from a file.

torch's exporter would write the response norm as eight smaller operators, which is slower; ONNX has one for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.checkpoint import Checkpoint
from model.network.tables import Conv, ResponseNorm, Step, Table

__all__ = ["write_onnx"]

OPSET = 21


class Graph:
    """The nodes and constants so far; `add` returns the name of a node's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object) -> str:
        """Add a float32 constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; several outputs are named <returned name>.0, .1, ..."""
        name = f"{kind}.{len(self.nodes)}"
        named = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, named, **attributes))
        return name


def write_onnx(checkpoint: Checkpoint, file: Path) -> None:
    """Write the network: float32 (B, 3, C, C) -> logits (B, classes), last hidden layer (B, F)."""
    table, weights, graph = checkpoint.table, checkpoint.weights, Graph()
    x = graph.add("Mul", "x", graph.constant("scale", table.input_scale)) if table.input_scale != 1.0 else "x"
    for name, row in table.named.items():
        weight, bias = (graph.constant(f"{name}.{kind}", weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        if isinstance(row, Conv):
            left, right, above, below = row.sides
            groups, around = table.columns if row.sees == "own" else 1, [above, left, below, right]
            x = graph.add("Conv", x, weight, bias, group=groups, strides=[row.stride] * 2, pads=around)
            for step in row.then:
                x = _step(graph, step, x, table)
            continue
        hidden = graph.add("Flatten", x)
        scale = table.test_scales[name]
        read = graph.add("Mul", hidden, graph.constant(f"{name}.scale", scale)) if scale != 1.0 else hidden
        logits = graph.add("Gemm", read, weight, bias, transB=1)
        x = graph.add("Relu", logits)
    graph.nodes.pop()  # the ReLU after the classes
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", None]) for name in (logits, hidden)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, table.crop, table.crop])]
    made = helper.make_graph(graph.nodes, table.name, inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    file.write_bytes(model.SerializeToString())


def _step(graph: Graph, step: Step, x: str, table: Table) -> str:
    match step:
        case "relu":
            return graph.add("Relu", x)
        case "pool":
            return graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
        case "map_norm":
            return _map_norm(graph, x, table.map_norm)
        case "norm" if table.norm_crosses or table.columns == 1:
            return _norm(graph, x, table.norm)
        case "norm":
            halves = graph.add("Split", x, outputs=table.columns, axis=1, num_outputs=table.columns)
            normed = [_norm(graph, f"{halves}.{column}", table.norm) for column in range(table.columns)]
            return graph.add("Concat", *normed, axis=1)


def _norm(graph: Graph, x: str, norm: ResponseNorm) -> str:
    """Section 3.3; ONNX divides alpha by the window."""
    return graph.add("LRN", x, alpha=norm.alpha * norm.size, beta=norm.beta, bias=norm.k, size=norm.size)


def _map_norm(graph: Graph, x: str, norm: ResponseNorm) -> str:
    """The norm within each map; ONNX has a pooling that gives means."""
    window: dict[str, Any] = {"kernel_shape": [norm.size] * 2, "pads": [norm.size // 2] * 4, "count_include_pad": 1}
    mean = graph.add("AveragePool", graph.add("Mul", x, x), **window)
    sums = graph.add("Mul", mean, graph.constant(f"{mean}.alpha", norm.alpha * norm.size**2))
    divisor = graph.add("Add", sums, graph.constant(f"{mean}.k", norm.k))
    return graph.add("Div", x, graph.add("Pow", divisor, graph.constant(f"{mean}.beta", norm.beta)))
