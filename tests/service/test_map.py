"""The map comes in one small answer, which a browser may keep while the generation is the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from index import Bundle
from service.app import create_app
from service.map import UNLABELLED, packed
from service.settings import Settings
from tests.service.bundles import CLASSES, EACH, build
from tests.service.conftest import ready
from tests.service.test_answers import INDEXED
from tests.service.test_problems import problem


def unpacked(data: bytes) -> tuple[dict[str, Any], NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]]:
    """The head, ids (n,), points (n, 2) and labels (n,) of a packed map, by its description."""
    start = 4 + int.from_bytes(data[:4], "little")
    head = json.loads(data[4:start])
    n = head["images"]
    assert start % 4 == 0
    assert len(data) == start + 10 * n
    ids = head["first_id"] + np.cumsum(np.frombuffer(data, "<u4", n, start), dtype=np.int64)
    points = np.frombuffer(data, "<u2", 2 * n, start + 4 * n).reshape(n, 2)
    return head, ids, points, np.frombuffer(data, "<u2", n, start + 8 * n)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    bundle = build(tmp_path_factory.mktemp("mapped"), kind="pca")
    with ready(create_app(Settings(bundle=bundle, device="cpu"))) as client:
        yield client, bundle


def test_each_image_has_its_place_and_its_label(mapped: tuple[TestClient, Path]) -> None:
    client, bundle = mapped
    answer = client.get("/map")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    head, ids, points, labels = unpacked(answer.content)
    assert (head["generation"], head["kind"], head["images"]) == (1, "pca", len(INDEXED))
    assert ids.tolist() == INDEXED
    assert [head["labels"][label] for label in labels] == [CLASSES[image_id // EACH] for image_id in INDEXED]
    positions = Bundle(bundle).current().positions()
    assert positions is not None
    assert (points.min(), points.max()) == (0, 65535)
    scale = 65535 / np.ptp(positions, axis=0).max()
    np.testing.assert_allclose(np.diff(points.astype(float), axis=0), scale * np.diff(positions, axis=0), atol=1.01)


def test_a_browser_keeps_it(mapped: tuple[TestClient, Path]) -> None:
    client, _ = mapped
    first = client.get("/map")
    again = client.get("/map", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["Cache-Control"] == "no-cache"


def test_an_index_without_a_map_says_how_to_make_one(client: TestClient) -> None:
    answer = client.get("/map")
    detail = answer.json()["detail"]
    assert answer.json() == problem(404, "no-map", "No map", detail)
    assert "scripts/build_index.py" in detail
    assert "--map umap" in detail


def test_labels_beyond_the_largest_number_are_not_told() -> None:
    many = UNLABELLED + 2
    names = [f"label {i}" for i in range(many)]
    head, _, _, labels = unpacked(
        packed("pca", 1, np.arange(many), np.zeros((many, 2), np.float32), np.arange(many), names)
    )
    assert head["labels"] == names[:UNLABELLED]  # the page takes what has a higher number for an image without one
    assert labels[-3:].tolist() == [UNLABELLED - 1, UNLABELLED, UNLABELLED]


@pytest.mark.parametrize(
    ("of_images", "expected"),
    [([1, -1, 0], ["b", None, "a"]), ([-1, -1, -1], [None, None, None]), ([2, 0, 2], ["c", "a", "c"])],
)
def test_images_without_a_label_have_none(of_images: list[int], expected: list[str | None]) -> None:
    positions = np.array([[0, 0], [1, 4], [2, 2]], np.float32)
    data = packed("umap", 3, np.array([7, 9, 70_000]), positions, np.array(of_images), ["a", "b", "c"])
    head, ids, points, labels = unpacked(data)
    assert ids.tolist() == [7, 9, 70_000]
    assert [None if label == UNLABELLED else head["labels"][label] for label in labels] == expected
    assert points.tolist() == [[16384, 0], [32768, 65535], [49151, 32768]]  # the shorter side lies in the middle
