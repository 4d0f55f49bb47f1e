"""A client that closes its connection while it waits is dropped: neither the network nor a place is spent on it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from service.app import create_app
from service.engine import Asked, Engine, Inference
from service.hanging_up import HangingUp
from service.loading import load_engine
from service.metrics import Metrics
from service.settings import Settings
from tests.service.bundles import image_file
from tests.waiting import SECONDS

pytestmark = pytest.mark.slow


def post(data: bytes) -> bytes:
    """Return a request for /classify."""
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + data + b"\r\n--x--\r\n"
    head = (
        "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(part)}\r\n\r\n"
    )
    return head.encode() + part


def shown(app: FastAPI) -> list[str]:
    """Return the lines of /metrics."""
    metrics: Metrics = app.state.metrics
    return metrics.text().decode().splitlines()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_client_that_closes_is_dropped_before_the_network_sees_it(settings: Settings) -> None:
    go, passes = threading.Event(), []
    go.set()

    def load(settings: Settings) -> Engine:
        engine = load_engine(settings)
        infer_all = engine.infer_all

        def wait(asked: Sequence[Asked]) -> list[Inference]:
            passes.append(len(asked))
            assert go.wait(SECONDS)
            return infer_all(asked)

        engine.infer_all = wait  # type: ignore[method-assign]
        return engine

    async def main() -> None:
        app = create_app(replace(settings, decoders=2), load)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_config=None))
            serving = asyncio.create_task(server.serve([listener]))
            address = listener.getsockname()
            await until(lambda: app.state.workers is not None and app.state.workers.lease.current.canaries.asked)
            go.clear()
            passes.clear()
            clients = [await asyncio.open_connection(*address) for _ in range(4)]
            for number, (_, writer) in enumerate(clients):
                writer.write(post(image_file(number)))
                depth = f"fc7_queue_depth {number:.1f}"
                await until(lambda depth=depth: passes == [1] and depth in shown(app))  # type: ignore[misc]
            clients[1][1].close()
            await until(lambda: "fc7_requests_admitted 3.0" in shown(app))  # its place is free at once
            go.set()
            for reader, writer in (clients[0], *clients[2:]):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                writer.close()
            assert passes == [1, 2]
            await until(lambda: not app.state.workers.lease.current.holders)  # of those who hung up, too
            server.should_exit = True
            await serving

    try:
        asyncio.run(asyncio.wait_for(main(), SECONDS))
    finally:
        go.set()


def test_an_answer_that_is_sent_piece_by_piece_arrives_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece
            await asyncio.sleep(0.01)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await StreamingResponse(pieces())(scope, receive, send)

    assert TestClient(HangingUp(app)).post("/", content=b"body").content == b"abc"
