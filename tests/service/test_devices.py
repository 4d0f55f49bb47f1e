"""The setting `device` places the network and the search; /version says where they are."""

from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.embed import Embedder
from model.forward.engines import EngineName
from service.app import create_app
from service.settings import Settings
from tests.index import gpus
from tests.service.conftest import ready


class OnGpu(Embedder):
    """Says that it is on a GPU, computes on the CPU."""

    def __init__(self, checkpoint: Checkpoint, device: str, engine: EngineName) -> None:
        super().__init__(checkpoint, "cpu", engine)
        self.device = device

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return Embedder(self.checkpoint, "cpu")(images)


def versions(settings: Settings, device: str) -> dict[str, Any]:
    """The devices in /version, by part."""
    with ready(create_app(replace(settings, device=device))) as client:
        body = client.get("/version").json()
    return {part: body[part]["device"] for part in ("model", "generation")}


@pytest.mark.parametrize(
    ("device", "used", "shown"), [("cuda", [0, 1], "cuda:0, cuda:1"), ("cuda:1", [1], "cuda:1"), ("cpu", [], "cpu")]
)
def test_the_search_is_where_the_network_is(
    device: str, used: list[int], shown: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gpus.install(monkeypatch, 2)
    monkeypatch.setattr("service.loading.Embedder", OnGpu)
    assert versions(settings, device) == {"model": device, "generation": shown}
    assert [index.device for index in made] == used


def test_without_gpu_faiss_the_cpu_searches_and_the_log_says_so_in_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    monkeypatch.setattr("service.loading.Embedder", OnGpu)
    assert versions(settings, "cuda") == {"model": "cuda", "generation": "cpu"}
    found = [record.getMessage() for record in caplog.records if record.name == "service.loading"]
    assert found == ["FAISS cannot use cuda here: the CPU searches"]
    caplog.clear()
    assert versions(settings, "cpu") == {"model": "cpu", "generation": "cpu"}
    assert "service.loading" not in [record.name for record in caplog.records]
