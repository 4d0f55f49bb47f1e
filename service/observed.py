"""The outermost middleware: each request gets an id and a record, is counted, and is a line in the log."""

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import problem
from service.metrics import NO_ROUTE, Metrics
from service.stages import Record, begin, record
from service.tracing import Tracing, trace_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["Observed", "access"]

SAFE = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # what a caller's request id may be
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
PROBES = frozenset(("/healthz", "/readyz", "/metrics"))  # asked every few seconds
GONE = 499  # the caller hung up before there was an answer: nginx's number for it

access = logging.getLogger(__name__)


class Observed:
    """ASGI middleware. An exception that nobody answered becomes a 500 here, so that it has the request's id, too."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, addresses: bool = False, tracing: Tracing | None = None
    ) -> None:
        """addresses: whether the log says who asked."""
        self._app, self._metrics, self._addresses, self._tracing = app, metrics, addresses, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(begin(_brought(scope)), receive, send)
        span = self._tracing.begin(scope["headers"]) if self._tracing else None
        error: Exception | None = None
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as failure:
                error = failure
                answer = problem(failure)  # counted, also where an answer has begun and breaks off
                if exchange.status is None:
                    await answer(scope, exchange.receive, exchange.send)
            finally:
                self._end(_Answered(scope, exchange), exchange, span, error)

    def _end(self, answered: "_Answered", exchange: "_Exchange", span: "Span | None", error: Exception | None) -> None:
        found = exchange.record
        self._metrics.answered(answered.route, str(answered.status), found)
        if answered.route in PROBES and answered.status < 400:
            return
        if self._tracing and span:
            self._tracing.end(span, found, answered.method, answered.route, answered.status)
        level = logging.ERROR if error else logging.WARNING if answered.status >= 500 else logging.INFO
        if access.isEnabledFor(level):
            milliseconds = {"total": time.perf_counter() - found.begun, **found.seconds()}
            fields: dict[str, Any] = {
                "method": answered.method,
                "route": answered.route,
                "status": answered.status,
                "bytes_in": exchange.arrived,
                "bytes_out": exchange.sent,
                "ms": {name: round(1000 * seconds, 3) for name, seconds in milliseconds.items()},
                **found.about(),
            }
            if self._addresses and answered.address:
                fields["address"] = answered.address
            if span:
                fields["trace_id"] = trace_id(span)
            extra = {"fields": fields, "kind": str(answered)}
            access.log(level, "%s", answered, extra=extra, exc_info=error)


class _Answered:
    """What of a request is safe to repeat: an address itself is the caller's choice, and may hold anything."""

    def __init__(self, scope: Scope, exchange: "_Exchange") -> None:
        self.method = scope["method"] if scope["method"] in METHODS else "other"
        # The pattern of the route; of static files their folder.
        self.route = getattr(scope.get("route"), "path", None) or scope.get("root_path") or NO_ROUTE
        self.status = GONE if exchange.status is None else exchange.status
        self.address: str | None = scope["client"][0] if scope.get("client") else None

    def __str__(self) -> str:
        return f"{self.method} {self.route} {self.status}"


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, record: Record, receive: Receive, send: Send) -> None:
        self.record, self._receive, self._send = record, receive, send
        self.status: int | None = None
        self.arrived = self.sent = 0  # bytes of the bodies
        self._reading: float | None = None  # since when
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        begun = self._reading = self._reading or time.perf_counter()
        message = await self._receive()
        self.arrived += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._complete = True
            record("read", time.perf_counter() - begun)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            added = [(b"x-request-id", self.record.request_id.encode()), (b"server-timing", _timing(self.record))]
            if self.record.generation is not None:
                added.append((b"x-fc7-generation", b"%d" % self.record.generation))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        elif message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
        await self._send(message)


def _timing(found: Record) -> bytes:
    """Return the value of a Server-Timing header (W3C): the stages and the whole so far, in milliseconds."""
    seconds = {**found.seconds(), "total": time.perf_counter() - found.begun}
    return ", ".join(f"{name};dur={1000 * taken:.3f}" for name, taken in seconds.items()).encode()


def _brought(scope: Scope) -> str | None:
    """Return the request id that the caller chose, if it did and it is safe to repeat."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if SAFE.fullmatch(value) else None
    return None
