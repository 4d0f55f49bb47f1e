"""A client that hangs up is answered no further: the decoder or the pass that its request waits for is for others."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HangingUp"]


class HangingUp:
    """ASGI middleware: cancels the handler of a request whose client hangs up between its body and the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(receive, send).handle(self.app, scope)
        else:
            await self.app(scope, receive, send)


class _Request:
    """One request, in its task."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    async def handle(self, app: ASGIApp, scope: Scope) -> None:
        handler = asyncio.current_task()
        assert handler

        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._gone = True
            handler.cancel()

        async def receive() -> Message:
            if self._watching:
                await asyncio.wait([self._watching])
                return {"type": "http.disconnect"} if self._gone else await self._receive()
            message = await self._receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                self._watching = asyncio.create_task(watch())
            return message

        async def send(message: Message) -> None:
            self._end_watch()  # the work is done; and the server says "disconnect" when the answer is sent, too
            await self._send(message)

        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._gone:
                raise
            handler.uncancel()
        finally:
            self._end_watch()

    def _end_watch(self) -> None:
        if self._watching and not self._watching.done():
            self._watching.cancel()
