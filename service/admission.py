"""Who may come in. What is refused here is refused before its body is read, and costs a fraction of a millisecond.

A request that computes takes one of the places until its answer is made. A request with a body takes room for its bytes
until it ends. Connections, and the heads of requests, are limited in connections.py.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.bodies import Body, Drain, Limits
from service.errors import Stopping, TooManyBytes, problem
from service.metrics import Metrics
from service.places import Places, Visit
from service.rates import network_of
from service.settings import Settings

__all__ = ["Admission", "Gate"]

READING = ("GET", "HEAD", "OPTIONS")
COMPUTED = "/images/random"  # what the network makes for a GET
ADMIN = "/admin/"  # needs no place: a full service must be operable
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Gate:
    """What is inside, and whether more may come in. The server closes it when it stops."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.limits = Limits(settings.max_bytes, settings.body_seconds, settings.body_rate)
        self.places = Places(settings.max_in_flight, settings.max_bodies * settings.max_bytes, metrics.admitted)
        self.stopping = False


class Admission:
    """ASGI middleware: refuses a request, or counts it and limits its body."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app, self._gate, self._drain = app, gate, Drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            visit = self._admit(scope)
        except HTTPException as error:
            await problem(error)(scope, receive, _withholding(send))
            await self._drain.read(receive)
            await send(END)
            return
        try:
            await self._serve(visit, scope, receive, send)
        finally:
            visit.leave()

    def _admit(self, scope: Scope) -> Visit:
        """Raises Stopping, TooManyBytes, Busy."""
        if self._gate.stopping:
            raise Stopping
        most = self._gate.limits.size
        size = _size(scope, most)
        if size > most:
            raise TooManyBytes(most)
        address = network_of(scope["client"][0]) if scope["client"] else ""
        return Visit(self._gate.places, address, size, computes=_computes(scope))

    async def _serve(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        body, withheld = Body(receive, visit, self._gate.limits), _withholding(send)
        started = unended = False

        async def sending(message: Message) -> None:
            nonlocal started, unended
            started = True
            visit.answered()  # a client that reads slowly holds no place
            unended = body.unread
            await (withheld if unended else send)(message)

        try:
            await self.app(scope, body.receive, sending)
        except asyncio.CancelledError:
            if not self._gate.stopping:
                raise
            if not started:
                await problem(Stopping())(scope, receive, send)
        else:
            if unended:  # the route or Access has refused the request before it was read, or its size while it was
                visit.leave()
                await self._drain.read(receive)
                await send(END)


def _withholding(send: Send) -> Send:
    """Return a `send` that keeps back the end of the answer: the server may close the connection with it."""

    async def withheld(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    return withheld


def _size(scope: Scope, most: int) -> int:
    """Return the bytes that the body has; `most` where it does not say; 0 where there is none."""
    for name, value in scope["headers"]:
        if name == b"content-length":  # digits: the HTTP server lets nothing else in but spaces behind them
            return int(value.strip().lstrip(b"0") or b"0")  # Python reads no number of thousands of digits
        if name == b"transfer-encoding":
            return most
    return 0


def _computes(scope: Scope) -> bool:
    path: str = scope["path"]  # routes match a line's end behind theirs, too: "/images/random%0A"
    return (scope["method"] not in READING or path.startswith(COMPUTED)) and not path.startswith(ADMIN)
