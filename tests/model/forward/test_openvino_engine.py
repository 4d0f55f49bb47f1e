"""OpenVINO's engine: batches padded to a few sizes, results that stay, bfloat16 that is near float32."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from model.embed import Embedder
from model.forward.engines import NoSuchEngine, open_forward
from model.forward.graph import graph_of
from model.forward.openvino_engine import OpenvinoForward, padded
from model.network.tables import CIFAR
from model.preprocess import network_input
from tests.model.forward.networks import assert_same, images_of, lively
from tests.model.forward.test_graph import BASE

ROOT = Path(__file__).parents[3]


def inputs(count: int) -> NDArray[np.float32]:
    return network_input(images_of(BASE, count), lively(BASE).mean_image, BASE.crop)


@pytest.fixture(scope="module")
def forward() -> OpenvinoForward:
    return OpenvinoForward(lively(BASE))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_a_batch_gives_the_rows_of_its_images_one_by_one(count: int, forward: OpenvinoForward) -> None:
    x = inputs(count)
    alone = [forward(x[row : row + 1]) for row in range(count)]
    for found, wanted in zip(forward(x), zip(*alone, strict=True), strict=True):
        assert_same(found, np.concatenate(wanted))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous


def test_few_batch_sizes_reach_the_graph() -> None:
    assert [padded(count) for count in (1, 2, 3, 4, 5, 8, 9, 11, 500, 512)] == [1, 2, 4, 4, 8, 8, 10, 16, 512, 512]
    assert padded(10) == 10  # the ten views of one image


def test_a_batch_reaches_the_graph_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    of = OpenvinoForward(lively(BASE))
    infer = of._request.infer

    def counting(arrays: list[NDArray[np.float32]], **more: Any) -> Any:
        sizes.append(len(arrays[0]))
        return infer(arrays, **more)

    monkeypatch.setattr(of, "_request", SimpleNamespace(infer=counting))
    for count in (1, 3, 5, 10):
        of(inputs(count))
    assert sizes == [1, 4, 8, 10]


def test_the_graph_shares_the_memory_of_the_weights() -> None:
    checkpoint = lively(BASE)
    constants = [node.data for node in graph_of(checkpoint).get_ops() if node.get_type_name() == "Constant"]
    for weight in checkpoint.weights.values():
        assert any(np.shares_memory(weight, values) for values in constants)


def test_the_weights_live_as_long_as_their_engine_and_no_longer() -> None:
    checkpoint, x = lively(BASE), inputs(3)
    weights = [weakref.ref(array) for array in checkpoint.weights.values()]
    forward = OpenvinoForward(checkpoint)
    before = forward(x)
    del checkpoint
    gc.collect()
    assert all(weight() is not None for weight in weights)
    for found, wanted in zip(forward(x), before, strict=True):
        np.testing.assert_array_equal(found, wanted)
    del forward
    gc.collect()
    assert not any(weight() is not None for weight in weights)


def test_results_outlive_the_next_call(forward: OpenvinoForward) -> None:
    x = inputs(4)
    results = forward(x)
    before = [result.copy() for result in results]
    forward(x[::-1] * 2)
    for result, as_it_was in zip(results, before, strict=True):
        np.testing.assert_array_equal(result, as_it_was)
        assert result.flags.writeable


def test_the_input_is_left_as_it_is(forward: OpenvinoForward) -> None:
    x = inputs(2)
    before = x.copy()
    forward(x)
    np.testing.assert_array_equal(x, before)


SIGNALLED = """
import os, signal
from model.forward.openvino_engine import OpenvinoForward
from model.network.tables import CIFAR
from tests.model.forward.networks import lively
engines = [OpenvinoForward(lively(CIFAR)) for _ in range(2)]
del engines[0]
del engines[0]
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.slow
def test_a_process_that_had_two_engines_still_handles_signals() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_no_images_give_no_rows(engine: Any) -> None:
    embedder = Embedder(lively(BASE), "cpu", engine)
    probabilities, features = embedder(images_of(BASE)[:0])
    assert (probabilities.shape, features.shape) == ((0, 7), (0, BASE.width))
    assert embedder.ten_views(images_of(BASE)[:0]).shape == (0, 7)


def no_bf16_for_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: ["FP32", "INT8"])


def no_bf16_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True})


@pytest.mark.parametrize(("engine", "without"), [("openvino", no_bf16_for_openvino), ("torch", no_bf16_for_torch)])
def test_bfloat16_is_refused_where_it_would_be_emulated(
    engine: Any, without: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    with pytest.raises(NoSuchEngine, match=r"no bfloat16 arithmetic.*; an index of precision float32 can be built.*$"):
        open_forward(lively(BASE, "bfloat16"), "cpu", engine)
    assert open_forward(lively(BASE), "cpu", engine).engine == engine


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_bfloat16_features_are_near_float32s_and_the_same_each_time(engine: Any) -> None:
    """A value in bfloat16 is off by 2^-9 of itself at most.

    Each of the eight layers rounds what it reads, its weights and what it gives. Independent errors add up as squares
    do, so a vector of features is off by no more than sqrt(8 * 3) * 2^-9 of its length, 1 %. The least error that is
    expected shows that this is not float32.
    """
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("needs a processor with AVX-512 BF16 or AMX")
    images = images_of(CIFAR, 3)
    embedder = Embedder(lively(CIFAR, "bfloat16"), "cpu", engine)
    wanted, (_, found) = Embedder(lively(CIFAR), "cpu", "torch")(images)[1], embedder(images)
    errors = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert errors.max() < (8 * 3) ** 0.5 * 2**-9
    assert errors.min() > 2**-10
    np.testing.assert_array_equal(embedder(images)[1], found)
