"""A request body is measured while it arrives: one that is too large is refused before it fills memory or disk."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooManyBytes, problem

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware: refuses a body of more than `limit` bytes.

    By its Content-Length before any of it is read, else at the first byte too many. The server goes on to discard what
    the client still sends, so that the client lives to read the answer.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _declared(scope) > self.limit:
            await problem(TooManyBytes(self.limit))(scope, receive, send)
            return
        arrived = 0

        async def counting() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self.limit:
                raise TooManyBytes(self.limit)
            return message

        await self.app(scope, counting, send)


def _declared(scope: Scope) -> int:
    """The Content-Length, 0 without one (the HTTP server has refused any that is not a number)."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
