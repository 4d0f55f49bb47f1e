"""Clients that send much and wait take little memory, and keep nobody out."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.end_to_end.served import Served, served
from tests.service.bundles import build, image_file
from tests.waiting import wait_until

MB = 1_000_000
CONNECTIONS = 60
PART = b'--a\r\nContent-Disposition: form-data; name="file{}"; filename="x"\r\n\r\n'
MANY_PARTS = [part for i in range(17) for part in (PART.replace(b"{}", b"%d" % i), bytes(MB - 1000), b"\r\n")]
FIELDS = [part for part in MANY_PARTS for part in [part.replace(b'; filename="x"', b"")]]
ONE_PART = [PART] + [bytes(MB)] * 17


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    bundle = build(tmp_path_factory.mktemp("collection"))
    with served("--bundle", str(bundle)) as server:
        wait_until(lambda: b" 200 " in asked(server, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        yield server


def asked(server: Served, request: bytes) -> bytes:
    """Return the first bytes of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(request)
        return connection.recv(1000)


def upload(size: int) -> bytes:
    return (
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        b"Content-Length: %d\r\n\r\n" % size
    )


@pytest.mark.parametrize("parts", [MANY_PARTS, FIELDS, ONE_PART], ids=["many files", "many fields", "one file"])
def test_sixty_clients_that_send_17_mb_and_wait(parts: list[bytes], server: Served) -> None:
    """They took 1 GiB, in parts that no limit counted, and a place each."""
    body = (
        b'--a\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + image_file(0) + b"\r\n--a--\r\n"
    )
    before = server.memory("VmRSS")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.settimeout(5)
            with contextlib.suppress(OSError):  # it has been refused
                for part in (upload(sum(map(len, parts)) + 1), *parts):
                    connection.sendall(part)
        begun = time.monotonic()
        answer = asked(server, upload(len(body)) + body)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert time.monotonic() - begun < 5
        assert server.memory("VmHWM") - before < 100 * MB
