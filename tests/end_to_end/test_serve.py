"""The service as a process: its messages in a terminal, and its memory under large uploads."""

import contextlib
import json
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.stopping import DRAIN
from tests.end_to_end.served import Served, served, start
from tests.images import encoded, photograph
from tests.service.bundles import build
from tests.waiting import wait_until

MB = 1_000_000
HEAD = b'--a\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Served]:
    with served("--bundle", str(bundle)) as server:
        yield server


def send(server: Served, headers: str, body: Iterator[bytes]) -> tuple[int, dict[str, object]]:
    """POST /classify over a socket and send the body until the server has had enough. Return status and JSON."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(
            f"POST /classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n".encode()
        )
        with contextlib.suppress(ConnectionError):
            for part in body:
                connection.sendall(part)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, text = answer.split(b"\r\n\r\n", 1)
    assert b"content-type: application/problem+json" in head or b" 200 " in head
    return int(head.split()[1]), json.loads(text)


def test_it_announces_its_address_and_answers(server: Served) -> None:
    with urllib.request.urlopen(f"{server.address}/neighbours?image_id=3", data=b"", timeout=60) as answer:
        found = json.load(answer)["neighbours"][0]
    assert (found["image_id"], found["distance"]) == (3, 0)


@pytest.mark.parametrize(
    "path", ["/static/../settings.py", "/static/%2e%2e/settings.py", "/static/..%2fsettings.py", "/static//etc/passwd"]
)
def test_no_file_outside_its_own_folder_is_served(path: str, server: Served) -> None:
    """Over a socket: HTTP clients resolve the dots before they send a path."""
    assert fetched(server, "/static/style.css").startswith(b"HTTP/1.1 200 ")
    answer = fetched(server, path)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"type":"urn:fc7:problem:no-such-page"' in answer


def fetched(server: Served, path: str) -> bytes:
    """Return the whole answer to a GET of exactly this path."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_an_upload_of_500_mb_is_refused_in_bounded_memory(kind: str, server: Served) -> None:
    before = server.memory("VmHWM")
    block = bytes(MB)
    multipart = "Content-Type: multipart/form-data; boundary=a\r\n"
    if kind == "declared":
        status, body = send(server, f"{multipart}Content-Length: {500 * MB}", (block for _ in range(500)))
    else:
        framed = b"%x\r\n%s\r\n" % (len(block), block)
        parts = [b"%x\r\n%s\r\n" % (len(HEAD), HEAD)] + [framed] * 500 + [b"0\r\n\r\n"]
        status, body = send(server, f"{multipart}Transfer-Encoding: chunked", iter(parts))
    assert (status, body["type"]) == (413, "urn:fc7:problem:too-many-bytes")
    assert body["detail"] == "the request is larger than the limit of 20,000,000 bytes"
    assert server.memory("VmHWM") - before < 60 * MB


def test_it_answers_at_once_that_an_upload_is_too_large(server: Served) -> None:
    """It does not wait for a body that it will refuse."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {500 * MB}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_many_large_images_at_once_do_not_add_up(server: Served) -> None:
    """20 images of 12 megapixels take 36 MB each when decoded; two are decoded at a time."""
    data = HEAD + encoded(photograph(3000, 4000)) + b"\r\n--a--\r\n"
    headers = f"Content-Type: multipart/form-data; boundary=a\r\nContent-Length: {len(data)}"
    before = server.memory("VmRSS")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: send(server, headers, iter([data])), range(20), timeout=120))
    assert [status for status, _ in answers] == [200] * 20
    assert server.memory("VmHWM") - before < 2 * 9 * 12 * MB + 20 * len(data) + 60 * MB


def refusal(*flags: str, **variables: str) -> str:
    process = start(*flags, **variables)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    return error


def test_a_taken_port_is_one_clear_line(server: Served, bundle: Path) -> None:
    line = f"serve.py: cannot listen on 127.0.0.1, port {server.port}: Address already in use"
    for error in (
        refusal("--bundle", str(bundle), "--port", str(server.port)),
        refusal(FC7_BUNDLE=str(bundle), FC7_PORT=str(server.port)),
    ):
        assert error.startswith(line)
        assert error.count("\n") == 1


def test_a_missing_bundle_is_one_clear_line(tmp_path: Path) -> None:
    error = refusal("--bundle", str(tmp_path / "none"), "--port", "0")
    assert re.fullmatch(r"serve\.py: .*/none: no index here; scripts/build_index\.py builds one\n", error)


def test_a_bad_flag_is_one_clear_line() -> None:
    assert refusal("--port", "99999").count("\n") == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_stops_when_told(sent: signal.Signals, code: int, bundle: Path) -> None:
    with served("--bundle", str(bundle)) as server:
        server.process.send_signal(sent)
        begun = time.monotonic()
        assert server.process.wait(timeout=30) == code
        assert time.monotonic() - begun < 10


def test_a_second_ctrl_c_waits_for_nobody(bundle: Path) -> None:
    with served("--bundle", str(bundle)) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        client.sendall(head + b"Content-Length: 1000\r\n\r\n")  # and no body
        wait_until(lambda: b"fc7_requests_admitted 1.0" in fetched(server, "/metrics"))
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_open(server.port))
        begun = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 130
        assert time.monotonic() - begun < DRAIN / 2


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
