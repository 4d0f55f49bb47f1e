"""A collection that has grown and shrunk is served as it is: segments, removed images, images with many names."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import pytest
from starlette.testclient import TestClient

from index import Bundle, exact
from model.data.folders import folder_source
from model.embed import Embedder
from scripts.indexing import growing
from service.app import create_app
from service.settings import Settings
from tests.images import encoded, photograph
from tests.service.bundles import BROKEN, CLASSES, EACH, build, network
from tests.service.conftest import ready
from tests.service.test_problems import problem

COPIED, REMOVED, COPIES = 3, {1, 25}, 24
NEW = EACH * len(CLASSES)  # image id of the first image that was added later


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    bundle = Bundle(build(folder))
    for copied in range(COPIES):
        copy(folder / f"images/cat/{COPIED:04}.png", folder / f"images/cat/copy-{copied:02}.png")
    for new in range(5):
        (folder / f"images/dog/new-{new}.png").write_bytes(encoded(photograph(32, 32, seed=500 + new)))
    embedder, source = Embedder(network(), "cpu"), folder_source(folder / "images", 32)
    file = folder / "checkpoint.safetensors"
    growing.build(embedder, source, "images", bundle, file, lambda *_: None).close()
    bundle.remove(REMOVED).close()
    return bundle.path


@pytest.fixture(scope="module")
def client(changed: Path) -> Iterator[TestClient]:
    with ready(create_app(Settings(bundle=changed, device="cpu"))) as client:
        yield client


def test_the_version_tells_segments_and_removed_images(client: TestClient) -> None:
    generation = client.get("/version").json()["generation"]
    assert (generation["number"], generation["segments"], generation["removed"]) == (3, 2, 2)
    assert generation["images"] == 29 + 5 - 2


def test_every_image_finds_the_nearest_of_those_that_are_left(client: TestClient, changed: Path) -> None:
    generation = Bundle(changed).current()
    ids, features = generation.ids, generation.rows(generation.ids)
    assert set(ids.tolist()) == {*range(NEW)} - {BROKEN} - REMOVED | {*ids.tolist()[-5:]}
    _, expected = exact.nearest(features, ids, features, 6)
    for image_id, nearest in zip(ids.tolist(), expected, strict=True):
        found = client.post(f"/neighbours?image_id={image_id}").json()["neighbours"]
        assert [one["image_id"] for one in found] == nearest.tolist()
    generation.close()


def test_a_removed_image_is_not_found_and_not_drawn(client: TestClient) -> None:
    for image_id in REMOVED:
        expected = problem(404, "no-such-image", "No such image", f"no image {image_id} in this collection")
        assert client.get(f"/images/{image_id}").json() == expected
        assert client.post(f"/neighbours?image_id={image_id}").json() == expected
    drawn = {client.get("/images/random").json()["image_id"] for _ in range(300)}
    assert not drawn & {*REMOVED, BROKEN}
    assert len(drawn) > 25  # of 32: fewer by chance in less than one run of 10^9
    assert max(drawn) >= NEW


def test_an_image_reports_all_its_names_up_to_a_limit(client: TestClient) -> None:
    first = client.post(f"/neighbours?image_id={COPIED}").json()["neighbours"][0]
    names = [f"cat/{COPIED:04}.png", *(f"cat/copy-{copied:02}.png" for copied in range(COPIES))]
    assert (first["name"], first["names"], first["names_count"]) == (names[0], names[:20], len(names))
    other = client.post("/neighbours?image_id=4").json()["neighbours"][0]
    assert (other["names"], other["names_count"]) == ([other["name"]], 1)
