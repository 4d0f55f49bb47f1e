"""Several files in one request: each has the answer or the problem that it has alone."""

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.engine import Engine
from service.workers import Workers
from tests.service.bundles import image_file
from tests.service.test_answers import STRANGE, upload
from tests.service.test_problems import bad_parameter, problem

ROUTES = ("/classify", "/neighbours", "/embed")


def several(*files: bytes) -> Any:
    return [("files", ("image.png", data, "image/png")) for data in files]


def alike(answer: Any) -> Any:
    """The same answer, to a rounding more or less."""
    if isinstance(answer, dict):
        return {name: alike(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [alike(value) for value in answer]
    return pytest.approx(answer, rel=1e-4, abs=1e-4) if isinstance(answer, float) else answer


@pytest.mark.parametrize("route", ROUTES)
def test_each_file_has_the_answer_that_it_has_alone(route: str, client: TestClient) -> None:
    data = {"top_k": "2", "k": "3", "label": "dog"}
    seeds = [STRANGE, 3, 17, STRANGE + 1]
    expected = [client.post(route, data=data, **upload(seed)).json() for seed in seeds]
    answer = client.post(f"{route}/many", data=data, files=several(*map(image_file, seeds)))
    assert answer.json() == {"results": [{"status": 200, "answer": alike(e), "problem": None} for e in expected]}
    assert answer.status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_a_bad_file_leaves_the_others_alone(route: str, client: TestClient) -> None:
    alone = client.post(route, **upload(3)).json()
    no_image = client.post(route, files={"file": b"no image"}).json()
    answer = client.post(f"{route}/many", files=several(b"no image", image_file(3), b""))
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [400, 200, 400]
    expected = problem(400, "not-an-image", "Not an image", no_image["detail"], errors=None)
    assert {**results[0]["problem"], "request_id": None} == {**expected, "request_id": None}
    assert results[0]["problem"]["request_id"] == answer.headers["X-Request-Id"]
    assert results[0]["answer"] is None
    assert results[1] == {"status": 200, "answer": alike(alone), "problem": None}


@pytest.mark.parametrize("route", ROUTES)
def test_as_many_files_as_the_limit_are_answered_and_no_more(route: str, client: TestClient) -> None:
    data = image_file(0)
    assert len(client.post(f"{route}/many", files=several(*[data] * 32)).json()["results"]) == 32
    refused = client.post(f"{route}/many", files=several(*[data] * 33))
    detail = "Too many files. Maximum number of files is 32."
    assert refused.json() == problem(400, "malformed-request", "Malformed request", detail)
    assert client.post(f"{route}/many").json() == bad_parameter("files", "Field required")


def test_what_all_files_have_in_common_is_refused_once(client: TestClient) -> None:
    files = several(image_file(0), image_file(1))
    assert client.post("/neighbours/many", data={"k": "0"}, files=files).status_code == 422
    detail = "no image has the label 'frogs'; accepted: 'cat', 'dog', 'frog'"
    unknown = client.post("/neighbours/many", data={"label": "frogs"}, files=files)
    assert (unknown.status_code, unknown.json()) == (404, problem(404, "no-such-label", "No such label", detail))


def test_hard_searches_of_one_request_do_not_refuse_each_other(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Engine.slow

    def slower(self: Engine, *asked: Any) -> Any:
        time.sleep(0.05)
        return slow(self, *asked)

    monkeypatch.setattr(Engine, "find_all", lambda _, features, __: ([None] * len(features), 0.0))
    monkeypatch.setattr(Engine, "slow", slower)
    results = client.post("/neighbours/many", files=several(*map(image_file, range(10)))).json()["results"]
    assert [result["status"] for result in results] == [200] * 10
    assert [result["answer"]["exactness"] for result in results] == ["exact"] * 10


def test_few_files_of_a_request_are_worked_on_at_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, inside, most = Workers.decode, 0, 0

    async def counted(self: Workers, *asked: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return await decode(self, *asked)
        finally:
            inside -= 1

    monkeypatch.setattr(Workers, "decode", counted)
    client.post("/classify/many", files=several(*[image_file(0)] * 32))
    assert most == 8


def test_a_failure_of_the_service_is_one_files_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decode, count = Workers.decode, 0

    async def failing(self: Workers, *asked: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("secret")
        return await decode(self, *asked)

    monkeypatch.setattr(Workers, "decode", failing)
    answer = client.post("/classify/many", files=several(*[image_file(0)] * 3))
    assert [result["status"] for result in answer.json()["results"]] == [200, 500, 200]
    assert "secret" not in answer.text
    assert "secret" in caplog.text
