"""The outermost middleware: each request gets an id and a record, is counted, and is a line in the log."""

import logging
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import problem
from service.metrics import NO_ROUTE, Metrics
from service.stages import Record, begin, record

__all__ = ["Observed", "access"]

SAFE = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # what a caller's request id may be
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
PROBES = frozenset(("/healthz", "/readyz", "/metrics"))  # asked every few seconds
GONE = 499  # the caller hung up before there was an answer: nginx's number for it

access = logging.getLogger(__name__)


class Observed:
    """ASGI middleware. An exception that nobody answered becomes a 500 here, so that it has the request's id, too."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, addresses: bool = False) -> None:
        """addresses: whether the log says who asked."""
        self._app, self._metrics, self._addresses = app, metrics, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(begin(_brought(scope)), receive, send)
        error: Exception | None = None
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as failure:
                error = failure
                if exchange.status is None:
                    await problem(failure)(scope, exchange.receive, exchange.send)
            finally:
                self._count(scope, exchange)
                self._log(scope, exchange, error)

    def _count(self, scope: Scope, exchange: "_Exchange") -> None:
        route, metrics = _route(scope), self._metrics
        metrics.requests.labels(route, str(exchange.answered)).inc()
        metrics.latency.labels(route).observe(time.perf_counter() - exchange.record.begun)
        for name, seconds in exchange.record.seconds().items():
            metrics.stages.labels(name).observe(seconds)
        if exchange.record.problem is not None:
            metrics.problems.labels(exchange.record.problem).inc()

    def _log(self, scope: Scope, exchange: "_Exchange", error: Exception | None) -> None:
        route, found, status = _route(scope), exchange.record, exchange.answered
        level = logging.ERROR if error else logging.WARNING if status >= 500 else logging.INFO
        if not access.isEnabledFor(level) or (route in PROBES and level == logging.INFO):
            return
        milliseconds = {"total": time.perf_counter() - found.begun, **found.seconds()}
        fields: dict[str, Any] = {
            "method": scope["method"] if scope["method"] in METHODS else "other",
            "route": route,
            "status": status,
            "bytes_in": exchange.arrived,
            "bytes_out": exchange.sent,
            "ms": {name: round(1000 * seconds, 3) for name, seconds in milliseconds.items()},
            "batch": found.batch,
            "generation": found.generation,
            "exactness": found.exactness,
            "problem": found.problem,
            "key": found.key,
            "address": scope["client"][0] if self._addresses and scope.get("client") else None,
        }
        about = {name: value for name, value in fields.items() if value is not None}
        message = f"{fields['method']} {route} {status}"
        access.log(level, "%s", message, extra={"fields": about, "kind": message}, exc_info=error)


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, record: Record, receive: Receive, send: Send) -> None:
        self.record, self._receive, self._send = record, receive, send
        self.status: int | None = None
        self.arrived = self.sent = 0  # bytes of the bodies
        self._reading: float | None = None  # since when
        self._complete = False

    @property
    def answered(self) -> int:
        """The status for metrics and log."""
        return GONE if self.status is None else self.status

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


def _route(scope: Scope) -> str:
    """Return the pattern of the route that answered: an address itself is the caller's, and may hold anything."""
    return getattr(scope.get("route"), "path", None) or scope.get("root_path") or NO_ROUTE  # the folder of static files
