"""A server in this process that answers as a test likes."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

from scripts.load.connection import post
from tests.waiting import SECONDS

Writer = asyncio.StreamWriter
REQUEST = post("/classify", b"an image")


@contextmanager
def server(answer: Callable[[int, Writer], None], seconds: float = 0.0, request: bytes = REQUEST) -> Iterator[int]:
    """Serve on a port: `seconds` after a `request`, `answer` gets its number (from 1) and writes what it likes."""
    asked, started = count(1), Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            while not writer.is_closing():
                await reader.readuntil(request)
                number = next(asked)
                await asyncio.sleep(seconds)
                answer(number, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            ended = asyncio.Event()
            started.set_result((listening.sockets[0].getsockname()[1], asyncio.get_running_loop(), ended))
            await ended.wait()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, run())
        port, loop, ended = started.result(SECONDS)
        try:
            yield port
        finally:
            loop.call_soon_threadsafe(ended.set)
        running.result(SECONDS)


def good(_: int, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
