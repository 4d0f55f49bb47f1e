"""The service says that it is not ready, that it is full, or that something broke, and stays up."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import Asked, Engine, Inference
from service.loading import load_engine
from service.settings import Settings
from tests.service.bundles import image_file
from tests.service.conftest import client_of, ready
from tests.service.test_problems import problem
from tests.waiting import SECONDS, wait_until

NOT_READY = problem(
    503, "not-ready", "Not ready", "the network and the index are still being loaded; try again in a moment"
)
BUSY = problem(503, "busy", "Busy", "2 requests are being answered, which is the maximum; try again in a moment")
NO_MEMORY = problem(
    503, "busy", "Busy", "there is not enough memory for this image now; try again, or send a smaller one"
)
BROKEN = problem(500, "internal-error", "Internal error", "something went wrong in the server; its log says what")


def test_it_is_alive_but_not_ready_while_it_loads(settings: Settings) -> None:
    go = threading.Event()

    def load(settings: Settings) -> Engine:
        assert go.wait(SECONDS)
        return load_engine(settings)

    with client_of(create_app(settings, load)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200
        answers = [client.get(path) for path in ("/readyz", "/version", "/images/1", "/images/random")]
        answers += [client.post(path, files={"file": image_file(0)}) for path in ("/classify", "/neighbours", "/embed")]
        go.set()
    for answer in answers:
        assert (answer.status_code, answer.json(), answer.headers["Retry-After"] in "123") == (503, NOT_READY, True)


def test_what_cannot_be_loaded_is_told_and_never_ready(tmp_path: Path) -> None:
    failures: list[Exception] = []
    with client_of(create_app(Settings(bundle=tmp_path), failed=failures.append)) as client:
        wait_until(lambda: bool(failures))
        assert client.get("/readyz").json() == NOT_READY
    assert [type(failure).__name__ for failure in failures] == ["BadBundle"]


@pytest.fixture
def slow(settings: Settings) -> Iterator[tuple[TestClient, threading.Event]]:
    """A service that admits two requests, whose network waits for an event."""
    go = threading.Event()

    def load(settings: Settings) -> Engine:
        engine = load_engine(settings)
        infer_all = engine.infer_all

        def wait(asked: Sequence[Asked]) -> list[Inference]:
            assert go.wait(SECONDS)
            return infer_all(asked)

        engine.infer_all = wait  # type: ignore[method-assign]
        engine.canaries = []  # which the network would keep waiting, too
        return engine

    with ready(create_app(replace(settings, max_in_flight=2), load)) as client:
        yield client, go
        go.set()


def test_a_request_too_many_is_told_to_come_back(slow: tuple[TestClient, threading.Event]) -> None:
    client, go = slow
    with ThreadPoolExecutor() as pool:
        inside = [pool.submit(client.post, "/classify", files={"file": image_file(i)}) for i in range(2)]
        wait_until(lambda: "fc7_requests_admitted 2.0" in client.get("/metrics").text)
        refused = client.post("/embed", files={"file": image_file(2)})
        assert (refused.status_code, refused.json(), refused.headers["Retry-After"] in "123") == (503, BUSY, True)
        assert client.get("/healthz").status_code == 200  # the loop is free
        go.set()
        assert [future.result(SECONDS).status_code for future in inside] == [200, 200]
    assert client.post("/embed", files={"file": image_file(2)}).status_code == 200


def test_a_bad_image_is_refused_while_the_network_is_busy(slow: tuple[TestClient, threading.Event]) -> None:
    client, go = slow
    with ThreadPoolExecutor() as pool:
        inside = pool.submit(client.post, "/classify", files={"file": image_file(0)})
        wait_until(lambda: "fc7_requests_admitted 1.0" in client.get("/metrics").text)
        assert client.post("/classify", files={"file": b"no image"}).status_code == 400
        go.set()
        assert inside.result(SECONDS).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [(RuntimeError("secret /etc/passwd"), 500, BROKEN), (MemoryError(), 503, NO_MEMORY)],
)
def test_what_breaks_inside_stays_inside(
    error: Exception, status: int, expected: dict[str, object], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Inference:
        raise error

    with ready(create_app(settings)) as client:
        monkeypatch.setattr(Engine, "infer_all", fail)
        answer = client.post("/embed", files={"file": image_file(0)})
        assert (answer.status_code, answer.json()) == (status, expected)
        assert answer.headers["Content-Type"] == "application/problem+json"
        monkeypatch.undo()
        assert client.post("/embed", files={"file": image_file(0)}).status_code == 200


def test_many_at_once_get_the_answers_they_get_alone(client: TestClient) -> None:
    alone = [client.post("/neighbours", files={"file": image_file(i)}).json() for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(
                lambda i: client.post("/neighbours", files={"file": image_file(i)}).json(), range(8), timeout=SECONDS
            )
        )
    assert together == alone


def test_making_an_app_does_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(bundle=tmp_path / "none"), load=lambda _: pytest.fail("loaded too early"))
    assert app.state.workers is None
