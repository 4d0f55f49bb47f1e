"""Which request needs which role, without keys and with them; what is refused has had no byte of its body read."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from starlette.types import Message

from service import page
from service.access import Access, role_of
from service.app import create_app
from service.keys import Keys, Role, line
from service.settings import Settings
from tests.service.conftest import client_of
from tests.service.doors import bearer, door, write

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ROLES = {
    ("GET", "/"): None,
    ("GET", "/docs"): None,
    ("GET", "/static/style.css"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("POST", "/classify"): "read",
    ("GET", "/images/3"): "read",
    ("GET", "/version"): "read",
    ("GET", "/anything/else"): "read",
    ("GET", "/statics"): "read",
    ("POST", "/images"): "write",
    ("DELETE", "/images/3"): "write",
    ("POST", "/admin/reload"): "admin",
    ("GET", "/admin"): "admin",
    ("GET", "/metrics"): "metrics",
    ("GET", "/metrics%0A"): "metrics",  # the router finds /metrics
}
KINDS: tuple[Role, ...] = ("read", "write", "admin", "metrics")


def kind(answer: Any) -> str:
    """Return "inside", or the problem's name."""
    return str(answer.text if answer.status_code == 200 else answer.json()["type"]).removeprefix("urn:fc7:problem:")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """One key for each role; a role's name is its key."""
    return write(tmp_path / "keys", *(line(f"the-{role}-key", (role,), role) for role in KINDS))


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_a_request_needs_the_key_of_its_role(method: str, path: str, keys: Path) -> None:
    client, role = door(keys=keys), ROLES[method, path]
    without = client.request(method, path)
    assert kind(without) == ("inside" if role is None else "key-needed")
    assert kind(client.request(method, path, headers=bearer("guessed"))) == kind(without)
    for given in KINDS:
        expected = "inside" if role in (None, given) or given == "admin" else "role-needed"
        assert kind(client.request(method, path, headers=bearer(given))) == expected


def test_a_missing_key_is_told_as_http_wants_it(keys: Path) -> None:
    client = door(keys=keys)
    for headers in ({}, {"Authorization": "Basic read"}, {"Authorization": "read"}, bearer("guessed")):
        answer = client.post("/classify", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="fc7"')
    assert answer.json()["detail"] == "this key is not known here, or no longer"
    lacking = client.post("/admin/reload", headers=bearer("read"))
    assert lacking.status_code == 403
    assert lacking.json()["detail"] == "the key of the-read-key has not the role admin, which this needs"


@pytest.mark.parametrize(("method", "path"), ROLES)
def test_without_keys_all_may_ask_and_nobody_may_change(method: str, path: str) -> None:
    answer = door().request(method, path, headers=bearer("guessed"))
    closed = ROLES[method, path] in ("write", "admin")
    assert kind(answer) == ("closed" if closed else "inside")
    if closed:
        assert answer.status_code == 403
        assert "make one with scripts/make_key.py, serve with --keys" in answer.json()["detail"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "172.18.0.4", "::1", "::ffff:10.0.0.1", "8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1", ""]
)
def test_without_keys_metrics_stay_near(address: str) -> None:
    near = address not in ("8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1", "")
    assert kind(door(address).get("/metrics")) == ("inside" if near else "closed")


def test_the_rate_is_a_keys_own_whatever_its_address(keys: Path) -> None:
    write(keys, line("ann", ("read",), "a"), line("ann", ("read",), "newer"), line("bob", ("read",), "b"))
    client = door(keys=keys, rate="1/minute")
    asked = [client.get("/version", headers=bearer(key)).status_code for key in ("a", "newer", "b", "b")]
    assert asked == [200, 429, 200, 429]


@pytest.mark.parametrize(
    "headers", [{"host": "attacker.example"}, {"host": "[::1]", "origin": "null"}, {"host": "[::1]"}]
)
def test_a_refused_requests_body_is_not_read(headers: dict[str, str], keys: Path) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body is read")

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": raw, "client": ("10.0.0.1", 1)}
    asyncio.run(Access(PlainTextResponse("inside"), Settings(), Keys(keys))(scope, receive, send))
    assert sent[0]["status"] in (401, 403, 421)


def test_docs_security_lists_every_route_with_its_role() -> None:
    """A new route has no role by accident: it is in the table, and the table is what Access does."""
    said = dict(re.findall(r"^\| `([A-Z]+ /\S*)` \| (\w+)", PAGE.read_text(), re.MULTILINE))
    paths = create_app(Settings()).openapi()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routes |= {("GET", route.path) for route in page.router.routes if isinstance(route, APIRoute)}
    routes |= {("GET", "/openapi.json"), ("GET", "/static/style.css")}
    assert {f"{method} {path}" for method, path in routes} == set(said)
    for route, role in said.items():
        assert role == str(role_of(*route.split())).replace("None", "open"), route


def test_the_api_document_shows_the_key_where_one_is_needed(keys: Path) -> None:
    with_keys, without = (create_app(Settings(keys=file)).openapi() for file in (keys, None))
    assert with_keys["paths"]["/classify"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in without["paths"]["/classify"]["post"]


def test_cors_is_closed_and_can_be_opened_for_one_site() -> None:
    ours, other = "https://photos.example", "https://attacker.example"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    shut, ajar = client_of(create_app(Settings())), client_of(create_app(Settings(cors_origins=(ours,))))
    assert "Access-Control-Allow-Origin" not in shut.get("/healthz", headers={"Origin": ours}).headers
    assert "Access-Control-Allow-Origin" not in ajar.get("/healthz", headers={"Origin": other}).headers
    assert ajar.options("/classify", headers={"Origin": other, **preflight}).status_code == 400
    allowed = ajar.options("/classify", headers={"Origin": ours, **preflight})
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, ours)
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    answer = ajar.post("/classify", headers={"Origin": ours})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (503, ours)


def test_metrics_say_whether_the_keys_are_those_of_the_file(keys: Path) -> None:
    client = client_of(create_app(Settings(keys=keys)), **bearer("metrics"))
    assert "fc7_keys_current 1.0" in client.get("/metrics").text.splitlines()
    write(keys, "half a li")
    assert "fc7_keys_current 0.0" in client.get("/metrics").text.splitlines()


def test_the_log_says_whose_key_it_was(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "service.observed")
    client = client_of(create_app(Settings(keys=keys)))
    for key in ("read", "guessed"):
        client.get("/version", headers=bearer(key))
    assert [line.__dict__["fields"].get("key") for line in caplog.records] == ["the-read-key", None]
    assert "guessed" not in str([line.__dict__ for line in caplog.records])
