"""Keys, hosts and addresses over real sockets: what uvicorn hands on, and a file of keys that changes meanwhile."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.keys import line
from tests.end_to_end.served import Served, served, start
from tests.service.bundles import build
from tests.service.doors import write
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("keys") / "keys", line("ann", ("read",), "old"))


@pytest.fixture(scope="module")
def keyed(bundle: Path, file: Path) -> Iterator[Served]:
    with served("--bundle", str(bundle), "--keys", str(file)) as server:
        wait_until(lambda: asked(server, "Host: localhost", path="/readyz") == 200)
        yield server


def asked(server: Served, *headers: str, path: str = "/labels") -> int:
    """Return the status of a GET with exactly these headers."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = "".join(f"{header}\r\n" for header in ("Connection: close", *headers))
        connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1])


def test_a_request_has_one_host_that_is_ours(keyed: Served) -> None:
    here, there, key = "Host: localhost", "Host: attacker.example", "Authorization: Bearer old"
    assert [asked(keyed, *hosts, key) for hosts in ([], [there], [here, there], [there, here])] == [421] * 4
    assert asked(keyed, here, key) == 200


def test_an_upload_is_refused_before_it_is_sent(keyed: Served) -> None:
    """A client that asks first (as curl does) is told no, and sends nothing."""
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=20) as connection:
        head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_keys_change_without_a_restart(keyed: Served, file: Path) -> None:
    def statuses() -> list[int]:
        return [asked(keyed, "Host: localhost", f"Authorization: Bearer {key}") for key in ("old", "new")]

    assert statuses() == [200, 401]
    write(file, line("ann", ("read",), "old"), line("ann", ("read",), "new"))
    assert statuses() == [200, 200]
    write(file, line("ann", ("read",), "new"))
    assert statuses() == [401, 200]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_forwarded_address_is_believed_of_named_proxies_alone(trusted: bool, bundle: Path) -> None:
    flags = ("--proxies", "127.0.0.1") if trusted else ()
    with served("--bundle", str(bundle), "--rate", "1/hour", *flags) as server:
        wait_until(lambda: asked(server, "Host: localhost", path="/readyz") == 200)  # before, /labels answers 503
        callers = ("1.1.1.1", "1.1.1.2", "1.1.1.1")
        statuses = [asked(server, "Host: localhost", f"X-Forwarded-For: {caller}") for caller in callers]
        metrics = asked(server, "Host: localhost", "X-Forwarded-For: 8.8.8.8", path="/metrics")
    assert (statuses, metrics) == (([200, 200, 429], 403) if trusted else ([200, 429, 429], 200))


def test_a_file_of_keys_that_cannot_be_used_is_one_clear_line(bundle: Path, tmp_path: Path) -> None:
    process = start("--bundle", str(bundle), "--port", "0", "--keys", str(write(tmp_path / "keys", "ann")))
    out, error = process.communicate(timeout=60)
    reason = "line 1: accepted is NAME ROLES HASH, as scripts/make_key.py writes it"
    assert (process.returncode, out, error) == (2, "", f"serve.py: {tmp_path / 'keys'}, {reason}\n")
