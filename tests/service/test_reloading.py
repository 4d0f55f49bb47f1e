"""A new generation is put to use while the service answers; one that cannot be used changes nothing."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from index import Bundle
from index.manifest import MANIFEST, Manifest, Part, fingerprint
from model import checkpoint
from service import reloading
from service.app import create_app
from service.keys import line
from service.settings import Settings
from tests.service.bundles import EACH, image_file, network, rebuilt
from tests.service.conftest import client_of
from tests.service.doors import bearer, write
from tests.waiting import SECONDS, wait_until

IDS = [image_id for image_id in range(3 * EACH) if image_id != 12]


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a service with a bundle of its own."""
    return replace(settings, bundle=copytree(settings.bundle, tmp_path / "bundle"), canary_seconds=0.5)


@contextmanager
def served(settings: Settings) -> Iterator[TestClient]:
    """An app that looks at CURRENT alone when it is asked to."""
    with client_of(create_app(settings)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def keyed(own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a key for /admin, and no watch."""
    monkeypatch.setattr(reloading, "POLL", 3600.0)
    keys = write(tmp_path / "keys", line("op", ("admin", "metrics"), "secret"))
    return replace(own, keys=keys)


@contextmanager
def operated(settings: Settings) -> Iterator[TestClient]:
    with client_of(create_app(settings), **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def version(client: TestClient) -> tuple[int, int]:
    found = client.get("/version").json()["generation"]
    return found["number"], found["images"]


def metric(client: TestClient, name: str) -> float:
    (found,) = [row.split()[-1] for row in client.get("/metrics").text.splitlines() if row.startswith(f"{name} ")]
    return float(found)


def opened(bundle: Path, number: int) -> list[str]:
    """The files of a generation that this process has open or mapped."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    descriptors = [os.readlink(link) for link in links if link.is_symlink()]
    return [found for found in [*mapped, *descriptors] if f"{bundle}/generations/{number:04}/" in found]


def test_a_published_generation_and_a_rollback_are_found_and_the_network_is_shared(own: Settings) -> None:
    app = create_app(own)
    with client_of(app) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        first = app.state.workers.lease.current.engine
        assert client.get("/images/3").headers["X-Fc7-Generation"] == "1"
        assert opened(own.bundle, 1)
        Bundle(own.bundle).remove([3]).close()
        wait_until(lambda: version(client) == (2, 28))
        found = client.get("/images/3")
        assert (found.status_code, found.headers["X-Fc7-Generation"]) == (404, "2")
        second = app.state.workers.lease.current.engine
        assert second.embedder is first.embedder
        assert "X-Fc7-Generation" not in client.get("/healthz").headers
        Bundle(own.bundle).roll_back().close()
        wait_until(lambda: version(client) == (1, 29))
        assert client.get("/images/3").status_code == 200
        wait_until(lambda: metric(client, "fc7_generations_open") == 1)
        assert metric(client, 'fc7_swaps_total{result="ok"}') == 2
        del first, second
        assert not opened(own.bundle, 2)


def test_reload_does_it_at_once_and_says_where_nothing_changed(keyed: Settings) -> None:
    with operated(keyed) as client:
        assert client.post("/admin/reload").json() == {"generation": 1, "swapped": False}
        Bundle(keyed.bundle).remove([3]).close()
        assert version(client) == (1, 29)
        with ThreadPoolExecutor(4) as pool:
            answers = [one.result().json() for one in [pool.submit(client.post, "/admin/reload") for _ in range(4)]]
        assert sorted(answer["swapped"] for answer in answers) == [False, False, False, True]
        assert {answer["generation"] for answer in answers} == {2}
        assert version(client) == (2, 28)


def test_a_bundle_that_was_built_again_has_the_same_number_and_is_put_to_use(keyed: Settings) -> None:
    with operated(keyed) as client:
        Bundle(keyed.bundle).remove([3]).close()
        Bundle(keyed.bundle).prune()
        (keyed.bundle / "generations/0002").rename(keyed.bundle / "generations/0001")
        manifest = keyed.bundle / "generations/0001" / MANIFEST
        manifest.write_text(replace(Manifest.read(manifest), number=1).to_json())
        (keyed.bundle / "CURRENT").write_text("0001\n")
        assert client.post("/admin/reload").json() == {"generation": 1, "swapped": True}
        assert version(client) == (1, 28)


def test_a_generation_that_shares_a_damaged_file_is_refused_and_a_whole_one_heals(
    keyed: Settings, settings: Settings
) -> None:
    (features,) = (keyed.bundle / "generations/0001/segments").glob("*/features.npy")
    features.chmod(0o600)
    with features.open("r+b") as file:
        file.seek(5000)
        file.write(b"\1")
    with client_of(create_app(keyed), **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").json().get("type") == "urn:fc7:problem:damaged-index")
        Bundle(keyed.bundle).remove([3]).close()
        answer = client.post("/admin/reload")
        assert answer.status_code == 409
        assert "features.npy: not the file that was published" in answer.json()["detail"]
        assert client.get("/readyz").json()["type"] == "urn:fc7:problem:damaged-index"
        rebuilt(keyed.bundle, settings.bundle.parent / "images", network(1))
        assert client.post("/admin/reload").json() == {"generation": 3, "swapped": True}
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_another_network_is_loaded_with_its_generation(keyed: Settings, settings: Settings) -> None:
    app = create_app(keyed)
    with client_of(app, **bearer("secret")) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        before = app.state.workers.lease.current.engine
        image = {"file": image_file(4)}
        first = client.post("/embed", files=image).json()
        rebuilt(keyed.bundle, settings.bundle.parent / "images", network(1))
        assert client.post("/admin/reload").json() == {"generation": 2, "swapped": True}
        assert app.state.workers.lease.current.engine.embedder is not before.embedder
        second = client.post("/embed", files=image).json()
        assert first["model"] != second["model"]
        assert first["embedding"] != second["embedding"]


def broken_manifest(generation: Path) -> None:
    (generation / "manifest.json").write_text("{}")


def half_deleted(generation: Path) -> None:
    rmtree(generation / "segments")


def wrong_checkpoint(generation: Path) -> None:
    """Beside features of another network, with a manifest that fits the file."""
    (file := generation / "checkpoint.safetensors").unlink()
    checkpoint.save(file, network(2))
    manifest = Manifest.read(generation / MANIFEST)
    parts = {**manifest.parts, file.name: Part(file.stat().st_size, fingerprint(file))}
    (generation / MANIFEST).write_text(replace(manifest, parts=parts).to_json())


def strange_canary(generation: Path) -> None:
    """The size of the file stays."""
    file = min((generation / "canaries").iterdir())
    data = file.read_bytes()
    file.unlink()  # another generation has this file, too
    file.write_bytes(bytes(len(data)))


BROKEN = {
    broken_manifest: "generations/0002/manifest.json: not a manifest: KeyError('format')",
    half_deleted: "missing",
    wrong_checkpoint: "generations/0002: the index was not made by the checkpoint beside it",
    strange_canary: "images of generation 2 do not give the features that it holds: the largest difference is 1e+06",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_generation_is_refused_and_told_and_the_old_one_goes_on(
    keyed: Settings, broken: object, caplog: pytest.LogCaptureFixture
) -> None:
    with operated(keyed) as client:
        Bundle(keyed.bundle).remove([3]).close()
        assert callable(broken)
        broken(keyed.bundle / "generations/0002")
        answer = client.post("/admin/reload")
        found = answer.json()
        assert (answer.status_code, found["type"]) == (409, "urn:fc7:problem:generation-refused")
        assert BROKEN[broken] in found["detail"]
        assert found["detail"].endswith("; generation 1 stays in use")
        assert str(keyed.bundle) not in found["detail"]
        assert client.get("/version").json()["refused"] in found["detail"]
        assert metric(client, 'fc7_swaps_total{result="refused"}') == 1
        assert metric(client, "fc7_generations_open") == 1
        assert any(row.getMessage().startswith("generation 1 stays in use: ") for row in caplog.records)
        assert client.get("/readyz").status_code == 200
        assert client.post("/neighbours?image_id=3").json()["generation"] == 1
        assert not opened(keyed.bundle, 2)
        Bundle(keyed.bundle).roll_back().close()
        Bundle(keyed.bundle).remove([4]).close()
        assert client.post("/admin/reload").json() == {"generation": 3, "swapped": True}
        assert client.get("/version").json()["refused"] is None


def test_where_memory_does_not_allow_two_the_new_one_is_refused_with_figures(
    keyed: Settings, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operated(keyed) as client:
        rebuilt(keyed.bundle, settings.bundle.parent / "images", network(1))
        monkeypatch.setattr(reloading, "available", lambda: 1000)
        found = client.post("/admin/reload").json()
        assert found["detail"].startswith(
            "generation 2 needs about 0.00 GiB beside the one in use, 0.00 GiB are available"
        )
        monkeypatch.setattr(reloading, "available", lambda: 10**9)
        assert client.post("/admin/reload").json()["swapped"]


def test_what_is_shared_with_the_generation_in_use_needs_no_memory_of_its_own(
    keyed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "available", lambda: 1000)  # 28 ids fit
    with operated(keyed) as client:
        Bundle(keyed.bundle).remove([3]).close()
        assert client.post("/admin/reload").json()["swapped"]


def test_a_refused_generation_is_not_tried_again_until_current_is_written(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "POLL", 0.02)
    with served(own) as client:
        Bundle(own.bundle).remove([3]).close()
        wait_until(lambda: version(client)[0] == 2)
        (own.bundle / "CURRENT").write_text("0009\n")
        wait_until(lambda: metric(client, 'fc7_swaps_total{result="refused"}') == 1)
        time.sleep(0.3)
        assert metric(client, 'fc7_swaps_total{result="refused"}') == 1
        (own.bundle / "CURRENT").write_text("0001\n")
        wait_until(lambda: version(client)[0] == 1)


@contextmanager
def over_http(app: FastAPI) -> Iterator[str]:
    """The app on a port of its own, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.mark.slow
def test_under_load_no_request_fails_and_no_answer_mixes_two_generations(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each generation lacks another image, which is the nearest to a question that is asked all the time."""
    monkeypatch.setattr(reloading, "POLL", 0.02)
    asked, stop, wrong = IDS[0], threading.Event(), list[str]()
    numbers, lacking = set[int](), {1: set[int]()}
    app = create_app(own)
    with over_http(app) as address:
        wait_until(lambda: httpx.get(f"{address}/readyz").status_code == 200)

        def ask() -> None:
            with httpx.Client(base_url=address, timeout=SECONDS) as client:
                while not stop.is_set():
                    answer = client.post("/neighbours", params={"k": 29}, files={"file": image_file(asked)})
                    if answer.status_code != 200:
                        wrong.append(f"{answer.status_code} {answer.text}")
                        continue
                    found = answer.json()
                    number = int(answer.headers["X-Fc7-Generation"])
                    numbers.add(number)
                    expected = set(IDS) - lacking[number]
                    if found["generation"] != number or {n["image_id"] for n in found["neighbours"]} != expected:
                        wrong.append(f"{number}: {found}")

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(ask) for _ in range(4)]
            try:
                for image_id in IDS[1:5]:
                    number = max(lacking) + 1
                    lacking[number] = lacking[number - 1] | {image_id}
                    Bundle(own.bundle).remove([image_id]).close()
                    wait_until(partial(numbers.__contains__, number))
                Bundle(own.bundle).roll_back().close()
                numbers.clear()
                wait_until(lambda: 4 in numbers)
            finally:
                stop.set()
            for client in clients:
                client.result(SECONDS)
        wait_until(lambda: app.state.workers is None or len(app.state.workers.lease._open) == 1)
        held = [number for number in (1, 2, 3, 5) if opened(own.bundle, number)]
    assert not wrong
    assert not held
