"""Requests are refused before their body is read, and slow ones take no place from quick ones."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from service import bodies
from service.admission import Admission, Gate
from service.bodies import Drain
from service.errors import Busy, problem
from service.metrics import Metrics
from service.settings import Settings
from tests.waiting import SECONDS

SETTINGS = Settings(max_in_flight=2, max_bytes=1000, max_bodies=4, body_seconds=60, body_rate=1000)


class Service:
    """The middleware before an app that reads the body, waits for `go`, and answers with the body's length."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.metrics = Metrics()
        self.gate = Gate(settings, self.metrics)
        self.admission = Admission(self._app, self.gate)
        self.go = asyncio.Event()
        self.inside = 0

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await Request(scope, receive).body()
            self.inside += 1
            await self.go.wait()
            await PlainTextResponse(str(len(body)))(scope, receive, send)
        except HTTPException as error:
            await problem(error)(scope, receive, send)

    def ask(self, parts: Sequence[bytes] = (b"x",), **more: Any) -> "Asked":
        return Asked(self.admission, parts, **more)

    @property
    def held(self) -> tuple[int, int, int]:
        """Places taken, bytes held, bytes of slow bodies."""
        places = self.gate.places
        return places.taken, places.bytes, places.slow.total()


class Asked:
    """A request whose client sends the first parts of its body at once, and the last one when `more` is set."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        parts: Sequence[bytes],
        *,
        method: str = "POST",
        path: str = "/classify",
        chunked: bool = False,
        written: bytes = b"%d",
        address: str = "192.0.2.1",
        stalls: bool = False,
        reads: bool = True,
    ) -> None:
        size = written % sum(map(len, parts))
        header = (b"transfer-encoding", b"chunked") if chunked else (b"content-length", size)
        scope = {"type": "http", "method": method, "path": path, "headers": [header], "client": (address, 1)}
        self.events: list[str] = []
        self.status, self.problem, self.close = 0, "", False
        self.more, self.reading = asyncio.Event(), asyncio.Event()
        if not stalls:
            self.more.set()
        if reads:
            self.reading.set()
        self._parts, self._at = parts, 0
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        self.events.append("receive")
        if self._at == len(self._parts):
            await asyncio.sleep(SECONDS)  # the client waits for its answer
        if self._at == len(self._parts) - 1:
            await self.more.wait()
        part = self._parts[self._at]
        self._at += 1
        return {"type": "http.request", "body": part, "more_body": self._at < len(self._parts)}

    async def _send(self, message: Message) -> None:
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        self.events.append("end" if ends else message["type"])
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.close = (b"connection", b"close") in message["headers"]
        else:
            await self.reading.wait()
            if self.status >= 400 and message["body"]:
                self.problem = json.loads(message["body"])["type"].rsplit(":", 1)[1]

    async def answer(self) -> tuple[int, str]:
        await asyncio.wait_for(self.task, SECONDS)
        return self.status, self.problem


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.001)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **more: Any) -> None:
        asyncio.run(test(*args, **more))  # type: ignore[arg-type]

    return run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is slow after 20 ms, and its rate counts after 100."""
    monkeypatch.setattr(bodies, "PATIENCE", 0.02)
    monkeypatch.setattr(bodies, "GRACE", 0.1)


async def full() -> tuple[Service, list[Asked]]:
    """Return a service whose two places are taken, and who takes them."""
    service = Service()
    inside = [service.ask() for _ in range(2)]
    await until(lambda: service.inside == 2)
    return service, inside


@in_loop
async def test_a_full_service_refuses_before_it_reads() -> None:
    service, inside = await full()
    refused = service.ask([bytes(300)] * 3)
    assert await refused.answer() == (503, "busy")
    assert refused.events[:2] == ["http.response.start", "http.response.body"]
    assert refused.events.count("receive") == 3  # what the client had to send is read, so that it reads the answer
    assert (refused.events[-1], refused.events.count("end")) == ("end", 1)
    service.go.set()
    assert [await asked.answer() for asked in inside] == [(200, "")] * 2
    assert await service.ask().answer() == (200, "")
    assert service.held == (0, 0, 0)


@in_loop
async def test_the_delay_that_is_asked_for_differs() -> None:
    assert {problem(Busy("")).headers["Retry-After"] for _ in range(100)} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("POST", "/neighbours", True),
        ("DELETE", "/images/3", True),
        ("GET", "/images/random", True),
        ("GET", "/images/random\n", True),  # as /images/random%0A arrives
        ("GET", "/images/3", False),
        ("GET", "/readyz", False),
        ("POST", "/admin/reload", False),
    ],
)
@in_loop
async def test_what_computes_takes_a_place(method: str, path: str, taken: bool) -> None:
    service, _ = await full()
    service.go.set()
    places = service.gate.places
    places.take(99)
    places.take(99)
    assert await service.ask(method=method, path=path).answer() == ((503, "busy") if taken else (200, ""))


@in_loop
async def test_a_client_that_does_not_read_its_answer_holds_no_place() -> None:
    service = Service()
    service.go.set()
    stuck = [service.ask(reads=False) for _ in range(2)]
    await until(lambda: all(asked.status == 200 for asked in stuck))
    assert await service.ask().answer() == (200, "")
    for asked in stuck:
        asked.reading.set()
        assert await asked.answer() == (200, "")


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_a_slow_body_leaves_its_place_to_others_and_comes_in_when_it_is_there() -> None:
    service = Service()
    slow = [service.ask([b"x" * 10, b"y" * 10], stalls=True) for _ in range(2)]
    assert await service.ask().answer() == (503, "busy")
    await until(lambda: service.held == (0, 40, 40))
    quick = [service.ask() for _ in range(2)]
    await until(lambda: service.inside == 2)
    for asked in slow:
        asked.more.set()
    await until(lambda: service.held == (4, 42, 0))
    late = service.ask([b"x", b"y"], stalls=True)
    late.more.set()
    service.go.set()
    assert await late.answer() == (503, "busy")
    assert [await asked.answer() for asked in [*slow, *quick]] == [(200, "")] * 4
    assert service.held == (0, 0, 0)


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_a_slow_body_is_refused_when_twice_as_many_are_inside_as_there_are_places() -> None:
    service = Service()
    slow = [service.ask([b"x", b"y"], stalls=True)]
    await until(lambda: service.held == (0, 2, 2))
    for _ in range(4):
        service.gate.places.take(99)
    slow[0].more.set()
    assert await slow[0].answer() == (503, "busy")
    assert service.held == (4, 0, 0)


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_slow_clients_of_one_address_leave_room_for_those_of_another() -> None:
    """4,000 bytes in all: 2,000 for the slow ones, 1,000 for those of one address, or network of IPv6 addresses."""
    service = Service(replace(SETTINGS, max_in_flight=10))
    first = [service.ask([bytes(250), bytes(250)], stalls=True, address=f"2001:db8::{i}") for i in range(3)]
    await until(lambda: service.held[2] == 1000 and first[2].task.done())
    assert (await first[2].answer(), first[2].close) == ((503, "busy"), True)
    second = service.ask([bytes(500), bytes(500)], stalls=True, address="192.0.2.2")
    await until(lambda: service.held[2] == 2000)
    third = service.ask([b"x", b"y"], stalls=True, address="192.0.2.3")
    assert await third.answer() == (503, "busy")
    service.go.set()
    assert await service.ask([bytes(1000)]).answer() == (200, "")
    for asked in (first[0], first[1], second):
        asked.more.set()
        assert await asked.answer() == (200, "")
    assert (service.held, service.gate.places.slow, service.gate.places.arriving) == ((0, 0, 0), {}, {})


@in_loop
async def test_bodies_that_one_address_begins_leave_room_for_those_of_another() -> None:
    """4,000 bytes in all, 2,000 of them for what is still to come from one network. A body that is there is not."""
    service = Service(replace(SETTINGS, max_in_flight=10))
    inside = [service.ask([bytes(900)], address="2001:db8::9")]
    inside += [service.ask([bytes(500), bytes(500)], stalls=True, address=f"2001:db8::{i}") for i in range(2)]
    await until(lambda: service.held == (3, 2900, 0))
    assert await service.ask([b"x"], address="2001:db8::3").answer() == (503, "busy")
    inside.append(service.ask([bytes(1000)], address="2001:db8:0:1::1"))
    await until(lambda: service.inside == 2)
    service.go.set()
    for asked in inside:
        asked.more.set()
        assert await asked.answer() == (200, "")
    assert (service.held, service.gate.places.arriving) == ((0, 0, 0), {})


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_all_bodies_together_have_a_limit() -> None:
    """A chunked body counts for the largest there may be until it is there."""
    service = Service(replace(SETTINGS, max_in_flight=10))
    inside = [service.ask([bytes(10)], chunked=True) for _ in range(3)]
    await until(lambda: service.held == (3, 30, 0))
    inside += [service.ask([bytes(1000)]) for _ in range(3)]
    await until(lambda: service.held == (6, 3030, 0))
    assert await service.ask([bytes(971)]).answer() == (503, "busy")
    assert await service.ask([bytes(1)], chunked=True).answer() == (503, "busy")
    service.go.set()
    assert await service.ask([bytes(970)]).answer() == (200, "")
    assert [await asked.answer() for asked in inside] == [(200, "")] * 6
    assert service.held == (0, 0, 0)


@pytest.mark.parametrize("chunked", [False, True])
@in_loop
async def test_a_body_that_is_too_large_is_refused(chunked: bool) -> None:
    service = Service()
    large = service.ask([bytes(600), bytes(600), bytes(600)], chunked=chunked)
    assert await large.answer() == (413, "too-many-bytes")
    answered = large.events.index("http.response.start")
    assert large.events[:answered].count("receive") == (2 if chunked else 0)
    assert large.events.count("receive") == 3
    assert (large.events[-1], large.events.count("end")) == ("end", 1)
    assert (large.close, service.held) == (True, (0, 0, 0))


@pytest.mark.parametrize("written", [b"%d \t", b"0" * 5000 + b"%d"], ids=["spaces", "zeros"])
@in_loop
async def test_spaces_and_zeros_hide_no_body(written: bytes) -> None:
    """The HTTP server accepts them around the number, and hands them on."""
    large = Service().ask([bytes(600), bytes(600)], written=written)
    assert await large.answer() == (413, "too-many-bytes")
    assert large.events[0] == "http.response.start"


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_a_body_that_stops_arriving_is_refused() -> None:
    """At 1,000 bytes a second, after a tenth of a second: 100 bytes have 0.2 s."""
    service = Service()
    start = time.monotonic()
    slow = service.ask([bytes(100), b"x"], stalls=True)
    assert (await slow.answer(), slow.close) == ((408, "too-slow"), True)
    assert 0.2 <= time.monotonic() - start < 10
    assert service.held == (0, 0, 0)


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_a_slow_line_that_keeps_the_rate_is_served() -> None:
    service = Service()
    service.go.set()
    slow = service.ask([bytes(400), b"x"], stalls=True)  # has half a second
    await asyncio.sleep(0.2)
    slow.more.set()
    assert await slow.answer() == (200, "")


@pytest.mark.usefixtures("impatient")
@in_loop
async def test_no_body_takes_longer_than_the_limit() -> None:
    service = Service(replace(SETTINGS, body_seconds=1, body_rate=1))
    slow = service.ask([bytes(900), b"x"], stalls=True)
    assert await slow.answer() == (408, "too-slow")


@in_loop
async def test_what_follows_a_refusal_is_read_for_a_while_only() -> None:
    async def endless() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    async def silent() -> Message:
        await asyncio.sleep(SECONDS)
        return {}

    async with asyncio.timeout(10):
        await Drain(seconds=SECONDS, most=1000).read(endless)
        await Drain(seconds=0.05).read(silent)
        drain = Drain(seconds=SECONDS, clients=1)
        first = asyncio.create_task(drain.read(silent))
        await asyncio.sleep(0)
        await drain.read(silent)
    first.cancel()


@in_loop
async def test_what_a_route_refuses_unread_is_read_afterwards() -> None:
    """So that a client which sends an image without its key reads why it was refused. It holds nothing meanwhile."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await problem(Busy(""))(scope, receive, send)

    service = Service()
    asked = Asked(Admission(refuse, service.gate), [bytes(300)] * 3, stalls=True)
    await until(lambda: asked.events.count("receive") == 3)
    assert (asked.problem, service.held) == ("busy", (0, 0, 0))
    asked.more.set()
    await asked.answer()
    assert asked.events == ["http.response.start", "http.response.body", *["receive"] * 3, "end"]


@in_loop
async def test_a_service_that_stops_lets_nobody_in_and_cuts_short_those_inside() -> None:
    service, (inside, finished) = await full()
    service.gate.stopping = True
    refused = service.ask(path="/", method="GET")
    assert (await refused.answer(), refused.close) == ((503, "stopping"), True)
    inside.task.cancel()  # what uvicorn does when its time is over
    assert await inside.answer() == (503, "stopping")
    service.go.set()
    assert await finished.answer() == (200, "")
    assert service.held == (0, 0, 0)


@in_loop
async def test_a_request_that_is_cancelled_otherwise_leaves_nothing_behind() -> None:
    service, (inside, _) = await full()
    inside.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inside.answer()
    assert service.held == (1, 1, 0)
