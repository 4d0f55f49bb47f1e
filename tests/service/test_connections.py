"""Connections are limited in number, and one that keeps the service waiting is cut. The server is a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service import connections
from service.admission import Gate
from service.connections import ConnectionConfig
from service.metrics import Metrics
from service.port import listen
from service.settings import Settings
from service.stopping import Server
from tests.waiting import SECONDS, wait_until

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE_ASK = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 20_000_000  # bytes, more than the buffers of a connection hold


async def root(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def unread(_: Request) -> PlainTextResponse:
    return PlainTextResponse("refused", 400)


async def large(_: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * LARGE)


class Running:
    """A server in a thread."""

    def __init__(self, port: int, metrics: Metrics) -> None:
        self.port, self.metrics = port, metrics

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))

    @property
    def open(self) -> float | None:
        return self.metrics.registry.get_sample_value("fc7_connections")


@contextmanager
def running(most: int = 100) -> Iterator[Running]:
    routes = [
        Route("/", root, methods=["GET", "POST"]),
        Route("/unread", unread, methods=["POST"]),
        Route("/large", large),
    ]
    metrics = Metrics()
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        config = ConnectionConfig(Starlette(routes=routes), most, metrics, log_config=None, timeout_graceful_shutdown=1)
        server = Server(config, Gate(Settings(), metrics))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Running(port, metrics)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server that waits a tenth as long as usual."""
    with pytest.MonkeyPatch.context() as patch, running() as server:
        for name, seconds in (("QUIET", 1.0), ("UNREAD", 1.0), ("CLOSING", 1.0)):
            patch.setattr(connections, name, seconds)
        yield server


def rest(connection: socket.socket) -> bytes:
    """Return what arrives until the connection is closed."""
    found = b""
    while True:
        try:
            part = connection.recv(1 << 20)
        except ConnectionResetError:
            return found
        if not part:
            return found
        found += part


def test_an_ordinary_request_is_answered(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        assert rest(connection).endswith(b"\r\n\r\n5 bytes")


def test_a_connection_too_many_is_told_so_and_closed() -> None:
    """Four in all, two from one address."""
    with running(most=4) as server, ExitStack() as stack:
        inside = [stack.enter_context(server.connect()) for _ in range(2)]
        wait_until(lambda: server.open == 2)
        with server.connect() as refused:
            answer = rest(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 2\r\n" in answer
        assert b"too many connections are open" in answer
        inside[0].sendall(ASK)
        assert inside[0].recv(100).startswith(b"HTTP/1.1 200 ")
        inside[1].close()
        wait_until(lambda: server.open == 1)
        with server.connect() as welcome:
            welcome.sendall(ASK)
            assert welcome.recv(100).startswith(b"HTTP/1.1 200 ")
        assert server.metrics.registry.get_sample_value("fc7_connections_refused_total") == 1


def test_connections_of_many_addresses_have_a_limit_together() -> None:
    with running(most=4) as server, ExitStack() as stack:
        for i in range(4):
            stack.enter_context(server.connect(f"127.0.0.{2 + i}"))
        wait_until(lambda: server.open == 4)
        with server.connect("127.0.0.9") as refused:
            assert rest(refused).startswith(b"HTTP/1.1 503 ")


STOPS = {
    b"": 0,
    b"GET / HT": 0,
    b"GET / HTTP/1.1\r\nHost: x\r\nX: ": 0,
    ASK + b"GET /": 1,
    b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx": 1,
}


def test_clients_that_stop_are_cut(server: Running) -> None:
    """In the middle of a head, before one, and after an answer with the rest of a body to come."""
    with ExitStack() as stack:
        begun = time.monotonic()
        waiting = [(stack.enter_context(server.connect()), sent, answers) for sent, answers in STOPS.items()]
        for connection, sent, _ in waiting:
            connection.sendall(sent)
        for connection, _, answers in waiting:
            assert rest(connection).count(b"HTTP/1.1 ") == answers
        assert 1 <= time.monotonic() - begun < 5


def test_dripping_a_head_gains_no_time(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 8:
                connection.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - begun < 5


def test_a_client_that_asks_often_is_not_cut(server: Running) -> None:
    with server.connect() as connection:
        for _ in range(25):
            connection.sendall(ASK)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.1)


def test_clients_that_do_not_read_are_cut(server: Running) -> None:
    """One has an answer that no buffer holds, one asked for three, one for the connection to be closed."""
    asked = (LARGE_ASK, LARGE_ASK * 3, LARGE_ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    wait_until(lambda: server.open == 0)
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in asked]
        for client, sent in zip(clients, asked, strict=True):
            client.sendall(sent)
        wait_until(lambda: server.open == 3)
        begun = time.monotonic()
        wait_until(lambda: server.open == 0)
        assert time.monotonic() - begun < 12
        for client in clients:
            assert len(rest(client)) < LARGE


def test_a_client_that_reads_gets_a_large_answer(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)
        assert len(rest(connection)) > LARGE


def test_a_client_that_reads_slowly_is_not_cut(server: Running) -> None:
    """There is always more to send than the buffer holds, but less of it from second to second."""
    with server.connect() as connection:
        connection.sendall(LARGE_ASK)
        begun, found = time.monotonic(), 0
        while time.monotonic() - begun < 3:
            found += len(connection.recv(50_000))
            time.sleep(0.02)
        assert found < LARGE * 3 / 4
        while found < LARGE:
            part = connection.recv(1 << 20)
            assert part
            found += len(part)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([b"GET /?" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n"], 400),
        ([b"GET / HTTP/1.1\r\nHost: x\r\n"] + [b"X: " + b"y" * 40_000 + b"\r\n"] * 3, 400),
        ([b"GET / HTTP/1.1\r\nHost: x\r\nX: "] + [b"y" * 40_000] * 20, 400),
        ([b"GET / HTTP/1.1\r\nHost: x\r\n"] + [b"X" * 40_000] * 20, 400),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "] + [b"y" * 40_000] * 20, 0),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"] + [b"y" * 40_000] * 20, 0),
        ([b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"] + [b"y" * 40_000] * 60, 400),
        ([LARGE_ASK * 200], 400),
    ],
    ids=[
        "address",
        "headers",
        "long headers",
        "header",
        "header name",
        "trailer",
        "chunk extension",
        "body after the answer",
        "pipeline",
    ],
)
def test_a_request_that_takes_too_much_memory_is_cut(sent: list[bytes], status: int, server: Running) -> None:
    with server.connect() as connection:
        for part in sent:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(0.002)
        begun = time.monotonic()
        answer = rest(connection)
        assert time.monotonic() - begun < 0.5  # at once: before the client counts as quiet
        assert answer.startswith(b"HTTP/1.1 %d " % status if status else b"")
        assert b"HTTP/1.1 200 " not in answer


def test_a_long_head_below_the_limits_is_accepted(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /?" + b"a" * 7000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        for i in range(20):
            connection.sendall(b"X-%d: %b\r\n" % (i, b"y" * 3000))
            time.sleep(0.002)
        connection.sendall(b"\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200 ")
