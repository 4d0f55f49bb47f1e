"""Trainer, batch job and HTTP give an image the same embedding, and its six neighbours are the nearest six."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from starlette.testclient import TestClient

from index.store import Bundle
from model.data.folders import folder_source
from model.data.loader import in_order, read
from model.data.packing import pack
from model.distributed.placement import OneProcess
from model.preprocess import network_input
from model.train.recipes import CIFAR
from model.train.step import Learner, TrainingTask
from service.app import create_app
from service.settings import Settings
from tests.images import encoded, photograph
from tests.service.bundles import CLASSES, TABLE, build, image_file, network
from tests.service.conftest import ready

HELD_OUT = 200
K = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[TestClient]:
    with ready(create_app(Settings(bundle=bundle, device="cpu"))) as client:
        yield client


def over_http(client: TestClient, data: bytes) -> NDArray[np.float32]:
    answer = client.post("/embed", files={"file": data}, headers={"Accept": "application/octet-stream"})
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<f4")


def by_the_trainer(folder: Path, out: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Return names and embeddings of a folder's images, computed as validation does: packed, loaded, embedded."""
    packed = pack(out, {"train": folder_source(folder, 32)})
    checkpoint, split = network(), packed.split("train")
    task = TrainingTask(TABLE, CIFAR, CLASSES, split, split, checkpoint.mean_image, packed.pca, seed=0, bf16=False)
    tensors = {name: torch.tensor(array) for name, array in checkpoint.weights.items()}
    learner = Learner(task, OneProcess(torch.device("cpu")), tensors)
    parts = []
    with torch.inference_mode():
        for batch in read(split, in_order(len(split), 512), 32, learner.device):
            parts.append(learner.network(network_input(batch.images, learner.mean, CIFAR.crop))[1].numpy())
    return list(split.names), np.concatenate(parts)


def test_the_trainer_the_batch_job_and_http_agree(bundle: Path, client: TestClient, tmp_path: Path) -> None:
    names, trained = by_the_trainer(bundle.parent / "images", tmp_path / "packed")
    generation = Bundle(bundle).current()
    assert len(names) == len(generation.ids)
    for row, image_id in enumerate(generation.ids):
        stored = np.array(generation.all_rows()[row])
        scale = np.abs(stored).max()
        name = generation.catalogue.image(int(image_id)).name
        np.testing.assert_allclose(over_http(client, image_file(int(image_id))), stored, rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_allclose(trained[names.index(name)], stored, rtol=1e-5, atol=1e-5 * scale)


def test_six_neighbours_over_http_are_brute_forces_for_200_held_out_images(bundle: Path, client: TestClient) -> None:
    generation = Bundle(bundle).current()
    features, ids = np.asarray(generation.all_rows(), np.float64), np.asarray(generation.ids)
    for seed in range(HELD_OUT):
        data = encoded(photograph(40, 30, seed=1000 + seed))
        found: list[dict[str, Any]] = client.post(f"/neighbours?k={K}", files={"file": data}).json()["neighbours"]
        distances = np.sqrt(((features - over_http(client, data).astype(np.float64)) ** 2).sum(axis=1))
        nearest = np.lexsort((ids, distances))[:K]
        assert [neighbour["image_id"] for neighbour in found] == ids[nearest].tolist()
        np.testing.assert_allclose([neighbour["distance"] for neighbour in found], distances[nearest], rtol=1e-12)


def test_what_one_engine_indexed_the_other_serves_with_the_same_neighbours(bundle: Path, client: TestClient) -> None:
    def asked(client: TestClient, seed: int) -> list[int]:
        data = encoded(photograph(40, 30, seed=1000 + seed))
        found = client.post(f"/neighbours?k={K}", files={"file": data}).json()["neighbours"]
        return [neighbour["image_id"] for neighbour in found]

    with ready(create_app(Settings(bundle=bundle, device="cpu", engine="torch"))) as other:
        version = other.get("/version").json()
        assert (version["model"]["engine"], version["generation"]["engine"]) == ("torch", "openvino")
        for seed in range(HELD_OUT):
            assert asked(other, seed) == asked(client, seed)


def test_an_indexed_image_finds_itself_first(bundle: Path, client: TestClient) -> None:
    for image_id in np.asarray(Bundle(bundle).current().ids).tolist():
        for answer in (
            client.post(f"/neighbours?image_id={image_id}"),
            client.post("/neighbours", files={"file": image_file(image_id)}),
        ):
            first, second = answer.json()["neighbours"][:2]
            assert first["image_id"] == image_id
            assert first["distance"] <= 1e-5 * second["distance"]  # 0, to rounding
