"""A web server on this machine that gives files as a home does, with the faults that homes and networks have."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest


@dataclass
class Home:
    """Files by their path without the slash, and how they are given."""

    files: dict[str, bytes]
    kind: str = "application/octet-stream"
    ranges: bool = True
    cut: int | None = None  # bytes of an answer's body, after which the connection ends
    pause: float = 0.0  # seconds before each byte of a body, from `cut` on
    headers_pause: float = 0.0  # seconds before each of the header's lines, without end
    length: bool = True  # say how long the body is
    asked: list[str] = field(default_factory=list)  # each request's range, "" without one
    port: int = 0
    over: Event = field(default_factory=Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


@contextmanager
def serving(home: Home) -> Iterator[Home]:
    """Give the files until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, home)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        home.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield home
        finally:
            home.over.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between a test and its server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def answer(request: BaseHTTPRequestHandler, home: Home) -> None:
    asked = request.headers.get("Range", "")
    home.asked.append(asked)
    content = home.files.get(request.path.lstrip("/"))
    if content is None:
        request.send_error(404)
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and home.ranges else 0
    if start >= len(content) > 0:
        request.send_error(416)
        return
    request.send_response(206 if asked and home.ranges else 200)
    request.flush_headers()
    deadline = time.monotonic() + 30
    while home.headers_pause and not home.over.wait(home.headers_pause) and time.monotonic() < deadline:
        request.wfile.write(b"X-More: 1\r\n")
    request.send_header("Content-Type", home.kind)
    if asked and home.ranges:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if home.length:
        request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    whole, rest = content[start:][: home.cut], content[start:][home.cut or 0 :]
    request.wfile.write(whole)
    for byte in rest if home.pause else b"":
        if home.over.wait(home.pause):
            return
        request.wfile.write(bytes([byte]))
