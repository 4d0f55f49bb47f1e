"""The log of a real process: lines of JSON that tell nothing of a caller, and answers also where there is no stderr."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.end_to_end.served import ANNOUNCED, ROOT, start
from tests.processes import environment
from tests.service.bundles import build, image_file

FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="SECRET.png"\r\n\r\n%s\r\n--b--\r\n'


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    bundle = build(tmp_path_factory.mktemp("collection"))
    return ["--bundle", str(bundle), "--device", "cpu", "--port", "0"]


def announced(process: "subprocess.Popen[str]") -> str:
    """Return the address, once the service is there."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(ANNOUNCED)
    return line.removeprefix(ANNOUNCED).strip()


def ask(address: str) -> int:
    """Ask about an image, with things that no log should hold; return the status."""
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": "Bearer SECRET"}
    request = urllib.request.Request(f"{address}/neighbours?SECRET=1", FORM % image_file(3), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.status)


def test_every_line_is_json_and_tells_nothing_of_the_caller(flags: list[str]) -> None:
    process = start(*flags)
    try:
        address = announced(process)
        assert ask(address) == 200
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(b"\x16\x03\x01SECRET\r\n\r\n")  # no HTTP: uvicorn's own warning
            connection.recv(1000)
    finally:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    lines = [json.loads(line) for line in error.splitlines()]
    assert "POST /neighbours 200" in [line["message"] for line in lines]
    assert "uvicorn.error" in [line["logger"] for line in lines]
    assert "SECRET" not in error


@contextmanager
def unusable(kind: str) -> Iterator[int]:
    """Give a stderr that is closed, a disk that is full, or a pipe that is full and that nobody reads."""
    if kind == "disk":
        descriptor, reader = os.open("/dev/full", os.O_WRONLY), None
    else:
        reader, descriptor = os.pipe()
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            while os.write(descriptor, bytes(4096)):
                pass
        os.set_blocking(descriptor, True)
    yield descriptor
    os.close(descriptor)
    if reader is not None:
        os.close(reader)


@pytest.mark.parametrize("kind", ["closed", "disk", "pipe"])
def test_it_answers_and_ends_where_it_cannot_log(kind: str, flags: list[str]) -> None:
    closed = "2>&-" if kind == "closed" else ""
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "scripts/serve.py", *flags]
    with unusable(kind) as stderr:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            address = announced(process)
            assert [ask(address) for _ in range(3)] == [200] * 3
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 0
