"""A search runs on the CPU, on every GPU or on one of them; where FAISS has no GPU, on the CPU."""

import faiss
import numpy as np
import pytest

from index.scan import gpus_of
from index.search import FlatIndex
from tests.index import gpus


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ()), ("cuda", (0, 1, 2)), ("cuda:1", (1,)), ("cuda:3", ()), ("cuda:12", ())]
)
def test_a_device_names_its_gpus(device: str, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.install(monkeypatch, 3)
    assert gpus_of(device) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_a_faiss_without_gpus_has_none(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    assert gpus_of(device) == ()
    monkeypatch.delattr(faiss, "get_num_gpus")  # as in some builds for the CPU
    assert gpus_of(device) == ()
    assert FlatIndex(np.ones((3, 2), np.float32), np.arange(3), gpus=gpus_of(device)).device == "cpu"


def test_the_rows_are_divided_between_the_gpus_that_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gpus.install(monkeypatch, 4)
    features = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    index = FlatIndex(features, np.arange(100), gpus=(1, 3))
    assert [(gpu.device, len(gpu.rows)) for gpu in made] == [(1, 50), (3, 50)]
    assert index.device == "cuda:1, cuda:3"
    assert index.search(features, 1)[1][:, 0].tolist() == list(range(100))
