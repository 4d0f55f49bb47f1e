"""Which engine is chosen, and one clear line where the one that was asked for is not to be had."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

from model.checkpoint import BadCheckpoint
from model.embed import Embedder
from model.forward import engines
from model.forward.engines import NoSuchEngine, open_forward
from tests.model.forward.networks import images_of, lively
from tests.model.forward.test_graph import BASE


def test_a_cpu_has_openvino_where_it_is_installed() -> None:
    assert Embedder(lively(BASE), "cpu").engine == "openvino"


def test_a_cpu_has_torch_where_openvino_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    assert Embedder(lively(BASE), "cpu").engine == "torch"


def test_the_engine_that_was_asked_for_is_taken() -> None:
    for engine in ("openvino", "torch"):
        embedder = Embedder(lively(BASE), "cpu", engine)
        assert (embedder.engine, embedder.device) == (engine, "cpu")


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_weights_of_another_table_are_refused(engine: Any) -> None:
    """These fit each other, so that a graph can be made of them: its embedding has nine numbers, not 16."""
    weights = lively(BASE).weights
    nine = {"fc4.weight": weights["fc4.weight"][:9], "fc4.bias": weights["fc4.bias"][:9]}
    narrow = replace(lively(BASE), weights={**weights, **nine, "fc5.weight": weights["fc5.weight"][:, :9]})
    with pytest.raises(BadCheckpoint, match=r"^the weights are not those of table 'base': fc4\.weight \(9, 24\), not"):
        open_forward(narrow, "cpu", engine)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_images_that_may_not_be_written_are_read(engine: Any) -> None:
    """As np.asarray(image) gives them, or a memory map; torch would warn."""
    images = images_of(BASE)
    images.flags.writeable = False
    assert Embedder(lively(BASE), "cpu", engine)(images)[1].shape == (2, BASE.width)


def test_openvino_is_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "is_cpu", lambda _: False)
    with pytest.raises(
        NoSuchEngine, match="^OpenVINO computes on the CPU here, not on cuda: --device cpu, or --engine torch$"
    ):
        open_forward(lively(BASE), "cuda", "openvino")


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("openvino", "OpenVINO cannot be loaded (.*): pip install openvino, or --engine torch"),
        ("torch", "torch cannot be loaded (.*): pip install torch"),
    ],
)
def test_an_engine_that_is_not_installed_is_one_line(engine: Any, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino_engine", "graph", "torch_engine"):
        monkeypatch.delitem(sys.modules, f"model.forward.{name}", raising=False)
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(NoSuchEngine, match=f"^{line}$") as refused:
        open_forward(lively(BASE), "cpu", engine)
    assert isinstance(refused.value.__cause__, ImportError)
