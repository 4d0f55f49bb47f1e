"""The client: its answers have the service's fields, it knows every route, and it waits as it is asked to."""

import asyncio
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import client as module
from service import schemas
from service.app import create_app
from service.client import AsyncClient, Client, Patience, Problem, Route, Unavailable, Unreachable
from service.errors import FRAMEWORK, KINDS
from service.settings import Settings

ANSWERS = [name for name in module.__all__ if dataclasses.is_dataclass(getattr(module, name)) and name != "Patience"]
ARGUMENTS = {"image": b"x", "images": [b"x"], "image_id": 29, "vector": b""}  # of what has no default
BUSY = {"type": "urn:fc7:problem:busy", "title": "Busy", "status": 503, "detail": "come back", "request_id": "1"}


def transport(*responses: httpx.Response) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """Answer with these responses, one after the other."""
    left, seen = list(responses), list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        of = left.pop(0)
        return httpx.Response(of.status_code, headers=of.headers, content=of.content)  # a response is read once

    return httpx.MockTransport(answer), seen


def busy(seconds: str | None = "2", **more: Any) -> httpx.Response:
    return httpx.Response(503, json=BUSY | more, headers={"Retry-After": seconds} if seconds else {})


def both(wanted: Callable[[Any], Any], *responses: httpx.Response, **settings: Any) -> Iterable[Any]:
    """Return what each client makes of the responses: its answer, or its error; and the requests."""

    async def awaited(through: httpx.MockTransport) -> Any:
        async with AsyncClient("http://fc7", transport=through, **settings) as fc7:
            return await wanted(fc7)

    def at_once(through: httpx.MockTransport) -> Any:
        return wanted(Client("http://fc7", transport=through, **settings))

    def in_a_loop(through: httpx.MockTransport) -> Any:
        return asyncio.run(awaited(through))

    for ask in (at_once, in_a_loop):
        through, seen = transport(*responses)
        try:
            yield ask(through), seen
        except (Problem, Unreachable) as error:
            yield error, seen


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    return pauses


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_fields_that_the_service_gives_it(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(getattr(module, name))}
    assert fields == set(getattr(schemas, name).model_fields)


def test_every_route_has_a_method() -> None:
    made = set()
    for route in vars(module._Routes).values():
        if isinstance(route, Route):
            named = inspect.signature(route._call).parameters.values()
            needed = {p.name: ARGUMENTS[p.name] for p in named if p.default is inspect.Parameter.empty}
            call = route._call(**needed)
            made.add((call.method.lower(), re.sub(r"\b29\b", "{image_id}", call.path)))
    paths = create_app(Settings()).openapi()["paths"]
    assert {(method, path) for path, methods in paths.items() for method in methods} <= made


def test_every_problem_is_an_exception_of_its_own_kind() -> None:
    for kind in (*KINDS.values(), *FRAMEWORK.values()):
        document = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": "why"}
        error = module._problem(document)
        assert type(error) is not Problem, kind
        assert (error.type, error.status, str(error)) == (kind.type, kind.status, f"{kind.title}: why")
    names = {kind.name: module._kind(kind.name, kind.status).__name__ for kind in KINDS.values()}
    assert (names["too-costly"], names["too-many-bytes"], names["no-such-label"]) == (
        "BadImage",
        "BadRequest",
        "NotFound",
    )
    assert (names["busy"], names["too-many-requests"], names["internal-error"]) == (
        "Unavailable",
        "Unavailable",
        "Failed",
    )


def test_it_comes_back_when_it_is_asked_to(slept: list[float]) -> None:
    late = httpx.Response(429, json=BUSY | {"status": 429}, headers={"Retry-After": "3"})
    good = httpx.Response(200, json={"embedding": [0.5], "model": "m", "new": "field"})
    for answer, seen in both(lambda fc7: fc7.embed(b"image"), busy(), late, good, key="secret"):
        assert answer == module.Embedding([0.5], "m")
        assert [request.headers["Authorization"] for request in seen] == ["Bearer secret"] * 3
        assert len({request.content.partition(b"image")[1] for request in seen}) == 1  # the file, each time
    assert slept == [2, 3] * 2


@pytest.mark.parametrize(
    ("responses", "pauses"),
    [
        ([busy()] * 3, [2.0, 2.0]),
        ([busy("11")], []),
        ([busy(None)], []),
        ([busy("Wed, 21 Oct 2026 07:28:00 GMT")], []),
    ],
    ids=["as often as it may", "no longer than it may", "not unasked", "not until a date"],
)
def test_it_gives_up(responses: list[httpx.Response], pauses: list[float], slept: list[float]) -> None:
    for error, seen in both(lambda fc7: fc7.labels(), *responses, patience=Patience(attempts=3)):
        assert isinstance(error, Unavailable)
        assert (error.type, error.request_id, str(error)) == ("urn:fc7:problem:busy", "1", "Busy: come back")
        assert len(seen) == len(responses)
    assert slept == pauses * 2


def test_a_refusal_that_is_no_problem_document_is_told_too() -> None:
    page = "<h1>Bad Gateway</h1>"
    for error, _ in both(lambda fc7: fc7.version(), httpx.Response(502, text=page)):
        assert isinstance(error, module.Failed)
        assert (error.type, error.status, str(error)) == ("about:blank", 502, f"HTTP 502: {page}")


@pytest.mark.parametrize("answer", [{"text": "<h1>Log in</h1>"}, {"json": ["a list"]}, {"json": {"version": "1"}}])
def test_an_answer_that_is_not_the_services_is_a_problem(answer: dict[str, Any]) -> None:
    for error, _ in both(lambda fc7: fc7.version(), httpx.Response(200, **answer)):
        assert isinstance(error, module.Failed)
        assert str(error).startswith("Not understood: the answer to GET /version is not one of this service: ")


def test_an_answer_that_cannot_be_read_is_none() -> None:
    def garbage(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    with Client("http://fc7", transport=httpx.MockTransport(garbage)) as fc7, pytest.raises(Unreachable):
        fc7.version()


def test_a_vector_of_numpy_is_sent() -> None:
    vector = np.array([0.5, 2.0], np.float32)
    for _, seen in both(lambda fc7: fc7.neighbours_of_vector(vector), busy(None)):
        assert json.loads(seen[0].content) == {"embedding": [0.5, 2.0]}


def test_a_service_that_does_not_answer_is_unreachable() -> None:
    with Client("http://127.0.0.1:1", timeout=5) as fc7, pytest.raises(Unreachable, match="http://127.0.0.1:1"):
        fc7.alive()


def test_parameters_that_are_not_given_are_not_sent() -> None:
    answer = httpx.Response(200, json={"images": [], "next": None, "total": 0, "generation": 1})
    for _, seen in both(lambda fc7: fc7.images(label="a b"), answer):
        assert str(seen[0].url) == "http://fc7/images?label=a+b&limit=30"


def test_the_file_works_alone(tmp_path: Path) -> None:
    """Copied into an empty folder, it imports neither another file of fc7 nor anything heavy."""
    (tmp_path / "copied.py").write_text(Path(module.__file__).read_text())
    code = "import copied, json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"service", "model", "index", "torch", "faiss", "numpy", "fastapi"} & set(json.loads(done.stdout))
