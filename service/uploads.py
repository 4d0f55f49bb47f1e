"""A limit on request bodies: a body that is too large is refused before it fills the memory or the disk."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooManyBytes, problem

__all__ = ["BodyLimit"]

PATIENCE = 60.0  # seconds that a refused client has to finish sending


class BodyLimit:
    """ASGI middleware: refuses a body of more than `limit` bytes.

    A body whose Content-Length is too large is refused before any of it is read, another at the first byte too many.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, send, self.limit)
        if _declared(scope) > self.limit:
            body.refused = True
            await problem(TooManyBytes(self.limit))(scope, body.receive, body.send)
        else:
            await self.app(scope, body.receive, body.send)
        if body.refused:
            await body.finish()


class _Body:
    """One request's body. A refusal is sent at once, but the connection is closed only when the client has finished
    sending: a client whose connection closes while it sends may not read the answer. Its data is thrown away."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._arrived, self._complete = 0, False
        self.refused = False

    async def receive(self) -> Message:
        message = await self._next()
        self._arrived += len(message.get("body", b""))
        if self._arrived > self._limit:
            self.refused = True
            raise TooManyBytes(self._limit)
        return message

    async def send(self, message: Message) -> None:
        if self.refused and message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await self._send(message)

    async def finish(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._complete:
                    await self._next()
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> Message:
        message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message


def _declared(scope: Scope) -> int:
    """Return the Content-Length, 0 without one. (The HTTP server has refused one that is not a number.)"""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
