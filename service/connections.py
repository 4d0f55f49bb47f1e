"""Connections: how many there may be, how long one may wait, and what one request's head may hold.

uvicorn limits none of this but the time between two requests. What a request's body may do is limited in bodies.py.
"""

import json
from collections import Counter
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.metrics import Metrics
from service.rates import network_of

__all__ = ["Connection", "ConnectionConfig"]

QUIET = 10.0  # seconds for a request's head, or for a client that neither sends nor has anything to read
UNREAD = 20.0  # seconds in which a client must read some of its answer
CLOSING = 60.0  # seconds in which it must read the rest, once the connection is to be closed
URL = 8_000  # bytes of an address
HEADERS = 100  # lines of a head and after a body in chunks
HEAD = 65_536  # bytes of these lines
SILENT = 65_536  # bytes that bring neither a header nor a part of a body
PIPELINED = 8  # requests that may wait for the answer to the one before
FULL = json.dumps(
    {
        "type": "urn:fc7:problem:busy",
        "title": "Busy",
        "status": 503,
        "detail": "too many connections are open; try again in a moment",
    }
).encode()
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 2\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(FULL), FULL)
)


class TooMuch(Exception):
    """A head is longer than accepted. The parser makes a 400 of it, and closes the connection."""


class ConnectionConfig(Config):
    """uvicorn's settings, and what its connections share."""

    def __init__(self, app: Any, most: int, metrics: Metrics, **more: Any) -> None:
        """most: open connections; one address may have half of them."""
        super().__init__(app, http=Connection, ws="none", **more)
        self.most, self.metrics = most, metrics
        self.addresses: Counter[str] = Counter()


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits. `overdue` is for its server to ask once a second."""

    config: ConnectionConfig

    def __init__(self, config: ConnectionConfig, *args: Any, **more: Any) -> None:
        super().__init__(config, *args, **more)
        self._address = ""
        self._silent = self._headers = self._head = 0
        self._state: tuple[str, Any, int] = ("", None, 0)
        self._since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        config, self._address = self.config, network_of(self.client[0]) if self.client else ""
        config.addresses[self._address] += 1
        config.metrics.connections.inc()
        if len(self.connections) > config.most or config.addresses[self._address] > max(1, config.most // 2):
            config.metrics.connections_refused.inc()
            transport.write(REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        config = self.config
        config.metrics.connections.dec()
        config.addresses[self._address] -= 1
        if not config.addresses[self._address]:
            del config.addresses[self._address]

    def data_received(self, data: bytes) -> None:
        self._silent += len(data)
        super().data_received(data)
        if self._silent <= SILENT or self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.scope is not self.scope:  # a head arrives
            self.send_400_response("Too many bytes in one header.")
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            raise TooMuch
        self._headers = self._head = self._silent = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL:
            raise TooMuch

    def on_header(self, name: bytes, value: bytes) -> None:
        self._silent = 0
        self._headers += 1
        self._head += len(name) + len(value)
        if self._headers > HEADERS or self._head > HEAD:
            raise TooMuch
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:  # else it is thrown away
            self._silent = 0
        super().on_body(body)

    def check(self, now: float) -> None:
        """Cut the connection where its client keeps it waiting for too long."""
        name, most = self._waits()
        state = name, self.cycle, self.transport.get_write_buffer_size() if name == "unread" else 0
        if self._state != state:
            self._state, self._since = state, now
        elif now - self._since > most:
            self.transport.abort()

    def cut(self) -> None:
        """Let go of a client that does not read its answer."""
        if self._waits()[0] in ("unread", "closing"):
            self.transport.abort()

    def _waits(self) -> tuple[str, float]:
        """Return what the connection waits for, and for how many seconds it may."""
        if self.transport.is_closing():
            return "closing", CLOSING
        if self.flow.write_paused:
            return "unread", UNREAD
        if self.cycle is None or self.cycle.response_complete:
            return "quiet", QUIET
        return "busy", float("inf")
