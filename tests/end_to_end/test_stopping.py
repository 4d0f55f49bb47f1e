"""The service ends within ten seconds of SIGTERM, whatever its clients and its own threads do."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.served import ROOT
from tests.processes import environment
from tests.service.bundles import build, image_file
from tests.waiting import wait_until

SECONDS = 10
HEAD = (
    "POST /classify?views=10 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n"
    "Content-Type: multipart/form-data; boundary=a\r\n\r\n"
)
PART = b'--a\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
ASK = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"

# scripts/serve.py, with a part that takes long in a thread that nobody can stop.
SCRIPT = """
import asyncio, time
from scripts.command import run
from service import server, workers
from service.settings import Settings
from service.stages import request_id

ten_views = workers.Workers.ten_views  # canaries do not ask for it

async def search(*asked):
    if request_id() is None:  # a canary
        return await infer(*asked)
    print("searching", flush=True)
    await asyncio.to_thread(time.sleep, {seconds})
    return await ten_views(*asked)

def load(_):
    print("fc7 is at loading", flush=True)
    time.sleep({seconds})

{patched}
run(Settings, server.serve)
"""
SEARCH = "workers.Workers.ten_views = search"
LOAD = "server.load_engine = load"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("collection"))


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(sent)
    return connection


def upload() -> bytes:
    body = PART + image_file(0) + b"\r\n--a--\r\n"
    return HEAD.format(len(body)).encode() + body


def received(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def port_of(process: "subprocess.Popen[str]") -> int:
    """Return the port once the service is ready, which is a moment after it says its address."""
    port = int(line(process).rsplit(":", 1)[1])
    ask = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    def ready() -> bool:
        with connected(port, ask) as connection:
            return received(connection).startswith(b"HTTP/1.1 200 ")

    wait_until(ready)
    return port


@contextmanager
def started(bundle: Path, patched: str = "", seconds: int = 60) -> Iterator["subprocess.Popen[str]"]:
    """Start the script, and kill it in the end if it is still there."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", SCRIPT.format(patched=patched, seconds=seconds)),
            *("--port", "0", "--device", "cpu", "--bundle", str(bundle)),
        ],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    too_late = threading.Timer(60, process.kill)
    too_late.start()
    try:
        yield process
    finally:
        too_late.cancel()
        process.kill()
        process.communicate(timeout=30)


def test_it_is_gone_in_ten_seconds_whatever_is_inside(bundle: Path) -> None:
    """Three at a time. Bad clients, in one: silent, in the middle of a head, of a body, and behind eight answers that
    are not read; a search that does not end, in another; the third still loads its engine."""
    with started(bundle) as served, started(bundle, SEARCH) as searching, started(bundle, LOAD) as loading:
        port, other = port_of(served), port_of(searching)
        assert line(loading) == "fc7 is at loading\n"
        with ExitStack() as stack:
            half = HEAD.format(17_000_000).encode() + PART + bytes(100_000)
            bad = [stack.enter_context(connected(port, sent)) for sent in (b"", b"GET /", half, ASK * 8)]
            kept = stack.enter_context(connected(port, ASK))
            assert kept.recv(20).startswith(b"HTTP/1.1 200 ")
            asked = stack.enter_context(connected(other, upload()))
            assert line(searching) == "searching\n"
            time.sleep(1)

            processes = (served, searching, loading)
            begun, ends = time.monotonic(), dict.fromkeys(processes, 0.0)
            for process in processes:
                process.terminate()
            while not all(ends.values()) and time.monotonic() - begun < 30:
                ends |= {one: time.monotonic() - begun for one in processes if not ends[one] and one.poll() is not None}
                time.sleep(0.05)
            assert [process.poll() for process in processes] == [0, 2, 0]
            assert max(ends.values()) < SECONDS
            for connection in (bad[2], asked):
                assert received(connection).startswith(b"HTTP/1.1 503 ")
        with pytest.raises(OSError, match="refused"):
            connected(port, b"")
        assert searching.stderr is not None
        last = searching.stderr.read().splitlines()[-1]
        assert last == "serve.py: stopped after 6 seconds, with requests unanswered: 1"


def test_those_inside_are_answered(bundle: Path) -> None:
    """A search of three seconds, and a body whose second half comes after the signal."""
    sent = upload()
    with started(bundle, SEARCH, seconds=3) as process:
        port = port_of(process)
        with connected(port, sent[:-100]) as half, connected(port, sent) as searched:
            assert line(process) == "searching\n"
            process.terminate()
            time.sleep(0.5)
            half.sendall(sent[-100:])
            for connection in (searched, half):
                head, body = received(connection).split(b"\r\n\r\n", 1)
                assert head.startswith(b"HTTP/1.1 200 ")
                assert b"\r\nconnection: close" in head
                assert len(json.loads(body)["predictions"]) == 3
        assert process.wait(timeout=30) == 0
