"""Images come into the collection and leave it while it is served."""

import asyncio
import errno
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

import files
from index import BadBundle, Bundle, assembly, exact
from index.bundle_folder import BundleFolder
from index.map import NoUmap
from scripts.build_index import Config, job
from scripts.indexing.shrinking import missing
from service import collection, reloading
from service.app import create_app
from service.changes import Changes
from service.errors import GenerationRefused
from service.growing import finished
from service.keys import line
from service.settings import Settings
from service.uploads import Upload, Uploads
from tests.images import encoded, photograph
from tests.index.blocks import CLASSES
from tests.index.blocks import collection as another
from tests.service.bundles import image_file
from tests.service.conftest import client_of
from tests.service.doors import bearer, write
from tests.service.test_canaries import disturbed, other_network
from tests.waiting import SECONDS, wait_until

FIRST = 30  # the image id of what is added first


def photo(seed: int) -> bytes:
    return encoded(photograph(32, 32, seed=1000 + seed))


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    keys = write(tmp_path / "keys", line("hand", ("write", "read"), "secret"))
    return replace(settings, bundle=copytree(settings.bundle, tmp_path / "bundle"), keys=keys)


@pytest.fixture
def client(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(reloading, "POLL", 3600.0)
    with client_of(create_app(own), **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def sent(client: TestClient, *images: bytes, label: str = "") -> Any:
    files = [("files", (f"{number}.png", data)) for number, data in enumerate(images)]
    return client.post("/images", files=files, data={"label": label} if label else {})


def found(client: TestClient, data: bytes) -> tuple[int, float]:
    """The nearest image, and its distance."""
    nearest = client.post("/neighbours?k=1", files={"file": data}).json()["neighbours"][0]
    return nearest["image_id"], nearest["distance"]


def test_an_added_image_is_found_at_once_with_its_name_and_label(client: TestClient, own: Settings) -> None:
    answer = sent(client, photo(0), photo(1), label="newt")
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["results"]
    assert answer.headers["X-Fc7-Generation"] == "2"
    assert answer.json()["generation"] == 2
    assert [(one["status"], one["answer"]["image_id"]) for one in (first, second)] == [(201, FIRST), (201, FIRST + 1)]
    image_id, distance = found(client, photo(0))
    assert image_id == FIRST
    assert distance < 0.01
    itself = client.post(f"/neighbours?image_id={FIRST}").json()
    assert (itself["name"], itself["true_label"]) == (first["answer"]["name"], "newt")
    assert first["answer"]["name"].endswith("/0.png")
    assert client.get(f"/images/{FIRST}").status_code == 200
    with closing(Bundle(own.bundle).current(verify=True)) as generation:
        assert (len(generation.ids), len(generation.segments)) == (31, 2)
        features = generation.rows(generation.ids)
        assert exact.nearest(features, generation.ids, features[-2:], 1)[1].tolist() == [[FIRST], [FIRST + 1]]


def test_each_file_has_its_own_status_and_what_is_there_keeps_its_id(client: TestClient, own: Settings) -> None:
    answer = sent(client, image_file(3), b"no image", photo(2), photo(2)).json()
    assert [one["status"] for one in answer["results"]] == [200, 400, 201, 200]
    assert [one["answer"] and one["answer"]["image_id"] for one in answer["results"]] == [3, None, FIRST, FIRST]
    assert answer["results"][1]["problem"]["type"] == "urn:fc7:problem:not-an-image"
    again = sent(client, photo(2), image_file(3)).json()
    assert [one["status"] for one in again["results"]] == [200, 200]
    assert again["generation"] == 2
    assert len(list((own.bundle / "uploads").iterdir())) == 2


def test_a_deleted_image_is_gone_and_so_is_its_original_and_it_can_come_back(client: TestClient, own: Settings) -> None:
    sent(client, photo(3), photo(4))
    answer = client.delete(f"/images/{FIRST}")
    assert (answer.status_code, answer.json()) == (200, {"image_id": FIRST, "generation": 3})
    assert (answer.headers["X-Fc7-Generation"], "decode" in answer.headers["Server-Timing"]) == ("3", False)
    assert client.get(f"/images/{FIRST}").status_code == 404
    assert found(client, photo(3))[0] != FIRST
    assert len(list((own.bundle / "uploads").iterdir())) == 2
    assert sent(client, photo(3)).json()["results"][0]["answer"]["image_id"] == FIRST + 2
    assert found(client, photo(3))[0] == FIRST + 2
    assert client.delete("/images/7").status_code == 200
    assert client.get("/images/7").status_code == 404
    assert client.delete("/images/7").json()["type"] == "urn:fc7:problem:no-such-image"


def test_build_index_knows_what_was_sent(client: TestClient, own: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds nothing to add, and misses what is no longer there."""
    sent(client, photo(5), photo(6))
    kept = own.bundle.resolve() / "uploads"
    job(Config(bundle=own.bundle, device="cpu", add=kept / "images.csv"))
    assert "of these images already: nothing to do" in capsys.readouterr().out
    (kept / Upload(photo(5)).content).unlink()
    with closing(Bundle(own.bundle).current()) as generation:
        assert missing(generation, str(kept / "images.csv")) == [generation.catalogue.image(FIRST).name]


def test_what_a_killed_service_kept_comes_in_with_the_next_image(client: TestClient, own: Settings) -> None:
    Uploads(own.bundle).add([Upload(photo(7))])  # killed here, before it was indexed
    assert sent(client, photo(8)).json()["generation"] == 2
    assert {found(client, photo(number))[0] for number in (7, 8)} == {FIRST, FIRST + 1}


def test_what_fails_when_it_was_published_keeps_its_originals(
    client: TestClient, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next change would find them gone, and take the images out again."""

    def published(*arguments: Any) -> Any:
        finished(*arguments).close()
        raise BadBundle("the old generations cannot be removed")

    with monkeypatch.context() as patch:
        patch.setattr(collection, "finished", published)
        assert sent(client, photo(30)).json()["type"] == "urn:fc7:problem:cannot-change"
    assert Upload(photo(30)).content in {path.name for path in (own.bundle / "uploads").iterdir()}
    assert [one["status"] for one in sent(client, photo(30), photo(31)).json()["results"]] == [200, 201]
    assert found(client, photo(30))[0] == FIRST


def test_what_fails_before_keeps_nothing_and_is_in_the_way_of_nothing(
    client: TestClient, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_umap(*_: Any) -> None:
        raise NoUmap("a map by UMAP needs umap-learn")

    def full(path: Path, data: bytes) -> None:
        if path.name == "images.csv":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        replace_file(path, data)

    replace_file = files.replace
    for place, name, stand_in in ((assembly, "write_map", no_umap), (files, "replace", full)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, stand_in)
            answer = sent(client, photo(32), photo(33))
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:fc7:problem:cannot-change")
        assert not list((own.bundle / "uploads").iterdir())
        assert (own.bundle / "building").exists()  # its images are done, for whoever sends them again
    assert client.delete("/images/3").status_code == 200


def test_an_unfinished_build_of_another_source_is_not_thrown_away(client: TestClient, own: Settings) -> None:
    bundle, others = Bundle(own.bundle), another(20)
    with closing(bundle.current()) as generation:
        of, checkpoint, layout = generation.manifest, generation.checkpoint, generation.layout
    found = bundle.compare(of.inputs, engine=of.engine, source="others", total=20, entries=others.entries)
    begin = partial(bundle.begin, of.inputs, checkpoint, changes=found, identity=others.identity, width=of.width)
    begin = partial(begin, engine=of.engine, classes=CLASSES, layout=layout)
    with begin() as building:
        building.append(others.block(0, 10, building.known(), of.width))
    for answer in (sent(client, photo(34)), client.delete("/images/3")):
        assert answer.json()["type"] == "urn:fc7:problem:cannot-change"
        assert answer.json()["detail"].endswith("10 of 20 images are done: finish that build, or delete it first")
    with begin() as building:
        assert building.done == 10


def test_an_original_that_a_killed_deletion_left_goes_with_the_next_change(
    client: TestClient, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(client, photo(35), photo(36), photo(39))
    Bundle(own.bundle).remove([FIRST]).close()  # killed here
    with monkeypatch.context() as patch:  # killed before the list was written
        patch.setattr(Uploads, "rows", lambda _: [])
        client.delete(f"/images/{FIRST + 1}")
    assert Upload(photo(36)).content not in {path.name for path in (own.bundle / "uploads").iterdir()}
    assert client.delete("/images/3").status_code == 200
    assert {path.name for path in (own.bundle / "uploads").iterdir()} == {"images.csv", Upload(photo(39)).content}
    assert [content for content, _, _ in Uploads(own.bundle).rows()] == [Upload(photo(39)).content]


def test_a_damaged_list_of_uploads_is_named(client: TestClient, own: Settings) -> None:
    sent(client, photo(37))
    with (own.bundle / "uploads" / "images.csv").open("a") as file:
        file.write("one cell\n")
    for answer in (sent(client, photo(38)), client.delete("/images/3")):
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:fc7:problem:cannot-change")
        assert answer.json()["detail"].startswith("nothing is changed: uploads/images.csv: a line is damaged: ")


def test_changes_that_come_together_are_one_generation(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go, add = threading.Event(), collection.Collection.add

    def slow(*arguments: Any) -> Any:
        assert go.wait(SECONDS)
        return add(*arguments)

    monkeypatch.setattr(collection.Collection, "add", slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(sent, client, photo(10))
        wait_until(lambda: client.get("/healthz").status_code == 200)
        others = [pool.submit(sent, client, photo(11 + number)) for number in range(3)]
        changes = client.app.state.changes  # type: ignore[attr-defined]
        wait_until(lambda: len(changes._waiting) == 3)
        go.set()
        answers = [first.result(SECONDS).json(), *(other.result(SECONDS).json() for other in others)]
    assert answers[0]["generation"] == 2
    assert {answer["generation"] for answer in answers[1:]} == {3}
    ids = [answer["results"][0]["answer"]["image_id"] for answer in answers]
    assert ids[0] == FIRST
    assert sorted(ids[1:]) == [FIRST + 1, FIRST + 2, FIRST + 3]


def test_requests_are_answered_while_images_are_added(client: TestClient) -> None:
    with ThreadPoolExecutor(3) as pool:
        adding = pool.submit(sent, client, *(photo(20 + number) for number in range(32)))
        statuses = []
        while not adding.done():
            statuses.append(client.post("/neighbours", files={"file": image_file(3)}).status_code)
    assert [one["status"] for one in adding.result().json()["results"]] == [201] * 32
    assert set(statuses) == {200}


def test_while_another_process_writes_a_change_is_told_to_wait_and_keeps_nothing(
    client: TestClient, own: Settings
) -> None:
    for lock in (BundleFolder(own.bundle).lock, Uploads(own.bundle).lock):  # build_index.py's; another service's
        with lock():
            for answer in (sent(client, photo(6)), client.delete("/images/3")):
                assert (answer.status_code, answer.json()["type"]) == (409, "urn:fc7:problem:collection-busy")
    assert not list((own.bundle / "uploads").iterdir())
    assert client.get("/images/3").status_code == 200
    assert sent(client, photo(6)).json()["results"][0]["status"] == 201


def test_a_bundle_that_cannot_be_written_says_so_in_one_line(
    client: TestClient, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def read_only(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", read_only)
    for answer in (sent(client, photo(7)), client.delete("/images/3")):
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:fc7:problem:cannot-change")
        assert answer.json()["detail"].startswith("nothing is changed: ")
        assert answer.json()["detail"].endswith(": cannot be written: Read-only file system")
        assert str(own.bundle) not in answer.json()["detail"]


def test_features_of_another_engine_are_not_mixed_in(own: Settings) -> None:
    with client_of(create_app(replace(own, engine="torch")), **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        detail = sent(client, photo(8)).json()["detail"]
        assert detail == "nothing is changed: its features were computed by openvino: serve with --engine openvino"
        assert not list((own.bundle / "uploads").iterdir())


def test_the_last_image_stays(client: TestClient, own: Settings) -> None:
    with closing(Bundle(own.bundle).current()) as generation:
        last, *others = generation.ids.tolist()
    Bundle(own.bundle).remove(others).close()
    answer = client.delete(f"/images/{last}")
    assert answer.json()["detail"] == "nothing is changed: no image would be left; a collection has at least one"


def test_a_network_that_has_changed_adds_nothing(own: Settings) -> None:
    app = create_app(own, lambda settings: other_network(settings, disturbed(0.5)))
    with client_of(app, **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").json().get("type") == "urn:fc7:problem:canary-failed")
        answer = sent(client, photo(40))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:fc7:problem:canary-failed")
        assert client.delete("/images/3").status_code == 409  # and the new generation is refused: its canaries fail
    assert not (own.bundle / "uploads").exists() or not list((own.bundle / "uploads").iterdir())


def test_an_error_for_a_client_that_has_gone_is_not_logged(own: Settings) -> None:
    logged = list[Any]()

    class Refusing:
        def __init__(self) -> None:
            self.go = asyncio.Event()

        async def reload(self) -> bool:
            await self.go.wait()
            raise GenerationRefused("none")

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        current: Any = SimpleNamespace(canaries=SimpleNamespace(failed=False))
        workers: Any = SimpleNamespace(lease=SimpleNamespace(current=current))
        reloading: Any = Refusing()
        changes = Changes(workers, reloading, own)
        adding = asyncio.create_task(changes.add([Upload(photo(41))]))
        await asyncio.sleep(0.01)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        reloading.go.set()
        await asyncio.sleep(0.01)
        del adding
        gc.collect()
        await changes.close()

    asyncio.run(leave())
    assert not logged


def test_without_keys_and_without_the_role_nobody_changes_it(own: Settings) -> None:
    for settings in (replace(own, keys=None), own):
        with client_of(create_app(settings)) as client:
            for answer in (sent(client, photo(9)), client.delete("/images/3")):
                assert answer.status_code == (403 if settings.keys is None else 401)
    assert Bundle(own.bundle).current().number == 1
