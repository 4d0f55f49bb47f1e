"""The network in ONNX's operators is the same network, so that what is timed beside ours is no other one."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from model.embed import Embedder
from model.network.tables import Table
from model.preprocess import network_input
from scripts.benchmarks.onnx_graph import write_onnx
from tests.model.forward.networks import assert_same, images_of, lively
from tests.model.forward.test_graph import PARTICULARS


@pytest.mark.parametrize("particular", PARTICULARS)
def test_each_particular_gives_the_outputs_of_torch(particular: str, tmp_path: Path) -> None:
    table: Table = PARTICULARS[particular][0]
    checkpoint = lively(table)
    write_onnx(checkpoint, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    pixels: NDArray[np.float32] = network_input(images_of(table, 3), checkpoint.mean_image, table.crop)
    x = np.ascontiguousarray(pixels)
    embedder = Embedder(checkpoint, "cpu", "torch")
    wanted = embedder.forward(embedder.forward.array(x))
    for found, expected in zip(session.run(None, {"x": x}), wanted, strict=True):
        assert_same(found, expected)
