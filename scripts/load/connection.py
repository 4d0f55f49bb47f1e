"""HTTP/1.1 over one socket, with requests that are prepared as bytes: a client that costs next to no processor time.

A benchmark's client takes its time from the same cores as the server; and a client that misbehaves on purpose has to
decide itself which bytes it sends.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Connection", "Lost", "once", "post"]

BOUNDARY = "a-boundary-that-no-image-holds"
LARGEST = 1 << 26  # bytes of an answer
PATIENCE = 60.0  # seconds that an answer may take


class Lost(ConnectionError):
    """No whole answer came."""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def post(path: str, file: bytes, **fields: str) -> bytes:
    """Return a POST of a multipart form: the file as `file`, and the fields before it."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="image"\r\n\r\n' + file)
    body = b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + body


class Connection:
    """A connection to 127.0.0.1 that is kept open between requests, and opened again where the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, patience: float = PATIENCE) -> Answer:
        """Send a request and read its answer. Raises Lost, after `patience` seconds at the latest."""
        try:
            async with asyncio.timeout(patience):
                if self._streams is not None and self._streams[0].at_eof():  # the server closed it meanwhile
                    self.close()
                reader, writer = self._streams or await self.open()
                writer.write(request)
                answer = await read(reader)
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:  # or TimeoutError
            self.close()
            raise Lost(f"no answer: {error!r}") from error
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open the connection now. Raises OSError."""
        self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=LARGEST)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def once(port: int, request: bytes, patience: float = PATIENCE) -> Answer:
    """Ask over a connection of its own. Raises Lost."""
    connection = Connection(port)
    try:
        return await connection.ask(request, patience)
    finally:
        connection.close()


async def read(reader: asyncio.StreamReader) -> Answer:
    """Read one answer, of a known length, in chunks, or up to the connection's end.

    Raises EOFError or ValueError where it is none.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    status = int(head[0].split(" ")[1])
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        body = await reader.read() if status >= 200 and status not in (204, 304) else b""
    return Answer(status, headers, body)
