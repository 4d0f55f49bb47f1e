"""Every request has an id, a record of its stages, a place in the metrics and a line in the log."""

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Busy, problem
from service.metrics import Metrics
from service.observed import Observed, access
from service.stages import note, record, request_id, stage
from tests.service.bundles import image_file

METRIC = re.compile(r"[a-z]+;dur=\d+\.\d{3}")  # W3C Server Timing: name;dur=milliseconds


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    """An application: /stages has some, /refused is refused by a middleware, /broken raises, /cut raises too late."""
    while (await receive()).get("more_body"):
        pass
    path = scope["path"]
    if path == "/refused":
        await problem(Busy("full"))(scope, receive, send)
        return
    if path == "/broken":
        raise RuntimeError("secret /etc/passwd")
    if path == "/stages":
        with stage("decode"):
            await asyncio.sleep(0.02)
        record("forward", 1.5)
        record("forward", 0.5)
        note(batch=8, generation=3, exactness="certified")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    if path == "/cut":
        raise RuntimeError("in the middle")
    await send({"type": "http.response.body", "body": (request_id() or "").encode()})


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def observed(metrics: Metrics) -> TestClient:
    return TestClient(Observed(answering, metrics))


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The records of requests, as they come."""
    kept = Kept()
    access.addHandler(kept)
    access.setLevel(logging.INFO)
    yield kept.records
    access.setLevel(logging.NOTSET)
    access.removeHandler(kept)


def test_every_answer_has_an_id_of_its_own(observed: TestClient) -> None:
    answers = [observed.get("/") for _ in range(20)]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == 20
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
    assert [answer.text for answer in answers] == [answer.headers["X-Request-Id"] for answer in answers]
    assert answers[0].headers["X-Own"] == "1"


@pytest.mark.parametrize("path", ["/refused", "/broken"])
def test_a_problem_says_the_same_id_as_its_header(path: str, observed: TestClient) -> None:
    answer = observed.get(path, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == "mine-1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in answer.text


@pytest.mark.parametrize("brought", ["", "a" * 65, "a b", 'a"', "a\tb", "é".encode(), "a;b"])
def test_an_id_that_is_not_safe_to_repeat_is_replaced(brought: str | bytes, observed: TestClient) -> None:
    headers = {b"X-Request-Id": brought if isinstance(brought, bytes) else brought.encode()}
    assert re.fullmatch("[0-9a-f]{16}", observed.get("/", headers=headers).headers["X-Request-Id"])


def test_a_safe_id_is_kept(observed: TestClient) -> None:
    brought = "A-b_c.9" + "0" * 57
    assert observed.get("/", headers={"X-Request-Id": brought}).headers["X-Request-Id"] == brought


def test_the_stages_are_in_the_header_the_metrics_and_the_log(
    observed: TestClient, metrics: Metrics, lines: list[Any]
) -> None:
    answer = observed.post("/stages", content=b"12345")
    assert all(METRIC.fullmatch(one) for one in answer.headers["Server-Timing"].split(", "))
    found = timing(answer)
    assert list(found) == ["read", "decode", "forward", "total"]
    assert found["forward"] == 2000
    assert 20 <= found["decode"] < found["total"] < 2000
    text = metrics.text().decode().splitlines()
    assert 'fc7_stage_seconds_sum{stage="forward"} 2.0' in text
    assert 'fc7_stage_seconds_count{stage="forward"} 1.0' in text
    assert 'fc7_stage_seconds_count{stage="search"} 0.0' in text
    (line,) = lines
    fields = line.fields
    assert fields.pop("ms").keys() == found.keys()
    expected = {"bytes_in": 5, "bytes_out": 16, "batch": 8, "generation": 3, "exactness": "certified"}
    assert fields == {"method": "POST", "route": "none", "status": 200, **expected}


def test_a_failure_is_one_line_with_its_trace(observed: TestClient, lines: list[Any]) -> None:
    observed.get("/broken")
    (line,) = lines
    assert (line.levelname, line.getMessage()) == ("ERROR", "GET none 500")
    assert line.exc_info is not None
    assert str(line.exc_info[1]) == "secret /etc/passwd"


def test_an_answer_that_breaks_off_is_a_failure(metrics: Metrics, lines: list[Any]) -> None:
    client = TestClient(Observed(answering, metrics), raise_server_exceptions=False)
    client.get("/cut")
    assert [line.levelname for line in lines] == ["ERROR"]


def test_problems_are_counted_by_type(observed: TestClient, metrics: Metrics) -> None:
    for path in ("/refused", "/refused", "/broken", "/"):
        observed.get(path)
    text = metrics.text().decode().splitlines()
    assert 'fc7_problems_total{type="busy"} 2.0' in text
    assert 'fc7_problems_total{type="internal-error"} 1.0' in text
    assert 'fc7_requests_total{route="none",status="503"} 2.0' in text


def test_a_caller_that_hung_up_is_counted_as_such(metrics: Metrics) -> None:
    async def gone(_: Scope, receive: Receive, __: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pytest.fail(f"nobody listens: {message}")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Observed(gone, metrics)(scope, receive, send))
    assert 'fc7_requests_total{route="none",status="499"} 1.0' in metrics.text().decode().splitlines()


def test_nothing_that_a_caller_chose_is_logged(metrics: Metrics, lines: list[Any]) -> None:
    client = TestClient(Observed(answering, metrics))
    client.request("SECRET1", "/secret2?key=secret3", headers={"X-Api-Key": "secret4", "User-Agent": "secret5"})
    (line,) = lines
    assert "secret" not in repr(vars(line)).lower()


def test_the_address_is_logged_where_that_is_asked_for(metrics: Metrics, lines: list[Any]) -> None:
    for addresses in (False, True):
        TestClient(Observed(answering, metrics, addresses=addresses), client=("192.0.2.1", 5)).get("/")
    assert [line.fields.get("address") for line in lines] == [None, "192.0.2.1"]


def test_two_requests_at_once_have_two_records(metrics: Metrics) -> None:
    together = asyncio.Event()
    inside: list[str | None] = []

    async def meeting(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(request_id())
        if len(inside) == 2:
            together.set()
        await asyncio.wait_for(together.wait(), 10)
        record("decode", 1.0)
        await answering(scope, receive, send)

    async def ask(app: ASGIApp) -> dict[bytes, bytes]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        return dict(sent[0]["headers"])

    async def both() -> list[dict[bytes, bytes]]:
        app = Observed(meeting, metrics)
        return list(await asyncio.gather(ask(app), ask(app)))

    answers = asyncio.run(both())
    assert {answer[b"x-request-id"].decode() for answer in answers} == set(inside)
    for answer in answers:
        assert b"decode;dur=1000.000" in answer[b"server-timing"]


def test_static_files_and_pages_of_nobody_have_bounded_routes(client: TestClient) -> None:
    for path in ("/static/style.css", "/static/none.js", "/wp-login"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'fc7_requests_total{route="/static",status="404"}' in text
    assert 'route="/static/' not in text
    assert "wp-login" not in text


def test_what_is_refused_before_its_body_has_no_route(client: TestClient) -> None:
    assert client.post("/embed", content=bytes(300_000)).status_code == 413
    assert 'fc7_requests_total{route="none",status="413"} ' in client.get("/metrics").text


def timing(answer: Any) -> dict[str, float]:
    """The stages of an answer's Server-Timing, in milliseconds."""
    return {
        name: float(dur) for name, dur in (one.split(";dur=") for one in answer.headers["Server-Timing"].split(", "))
    }


NETWORK = ["queue", "forward"]
SEARCH = ["search", "rerank"]


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("/classify", ["read", "decode", *NETWORK]),
        ("/classify?views=10", ["read", "decode", *NETWORK]),
        ("/embed", ["read", "decode", *NETWORK]),
        ("/neighbours", ["read", "decode", *NETWORK, *SEARCH]),
        ("/neighbours?label=cat", ["read", "decode", *NETWORK, *SEARCH]),
        ("/neighbours?image_id=3", [*NETWORK, *SEARCH]),  # there is no body
    ],
)
def test_an_answer_has_all_its_stages_which_together_take_no_longer_than_the_whole(
    path: str, stages: list[str], client: TestClient
) -> None:
    file = None if "image_id" in path else {"file": image_file(3)}
    for _ in range(3):
        found = timing(client.post(path, files=file))
        assert list(found) == [*stages, "total"]
        assert found["forward"] > 0
        total = found.pop("total")
        assert sum(found.values()) <= total + 0.001 * len(found)  # each is rounded


def test_an_answer_names_its_generation(client: TestClient, lines: list[Any]) -> None:
    answer = client.post("/neighbours", files={"file": image_file(3)})
    assert answer.headers["X-Fc7-Generation"] == "1"
    (line,) = [line for line in lines if line.getMessage() == "POST /neighbours 200"]
    assert line.fields["generation"] == 1
