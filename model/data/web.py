"""A file from a web server, from its first byte or from where an earlier request was cut, within limits of time."""

import http.client
import queue
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import HTTPError

__all__ = ["Answer", "Cut", "Patience", "Unavailable", "get"]

BLOCK = 1 << 18  # bytes
DIGITS = 18  # of a file's length; int() refuses very long numbers


class Unavailable(Exception):
    """The server does not give the file, or is too slow; the message is the reason."""


class Cut(Unavailable):
    """The connection ended within the file, or nothing more came."""


@dataclass(frozen=True)
class Patience:
    """How long a server may take."""

    silence: float = 20.0  # seconds without a byte
    window: float = 60.0  # seconds for the answer's headers; then each window must bring `rate` x `window` bytes
    rate: int = 5_000  # bytes a second


@dataclass(frozen=True)
class Answer:
    """The server's answer, its headers read."""

    response: http.client.HTTPResponse
    patience: Patience
    start: int  # position of its first byte in the file: the one asked for, or 0
    total: int  # bytes of the whole file

    @property
    def content(self) -> str:
        """The type that the server says the bytes have."""
        return self.response.headers.get_content_type()

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes from `start` to the end. Raises Cut, and Unavailable where they come too slowly."""
        at = mark = self.start
        begun = time.monotonic()
        while at < self.total:
            block = self._block(at)
            at += len(block)
            yield block
            if (seconds := time.monotonic() - begun) > self.patience.window:
                if at - mark < self.patience.rate * seconds:
                    raise Unavailable(f"too slow: {at - mark:,} bytes in {seconds:.0f} s")
                begun, mark = time.monotonic(), at

    def _block(self, at: int) -> bytes:
        where = f"after {at:,} of {self.total:,} bytes"
        try:
            block = self.response.read1(BLOCK)  # what has arrived; `read` would wait until the block is full
        except TimeoutError as error:
            raise Cut(f"nothing more for {self.patience.silence:g} s {where}") from error
        except (OSError, http.client.HTTPException) as error:
            raise Cut(f"cut {where}: {error}") from error
        if not block:
            raise Cut(f"cut {where}")
        return block


@contextmanager
def get(url: str, start: int, patience: Patience) -> Iterator[Answer]:
    """Ask for the bytes from position `start` on. An answer of the whole file has `start` 0. Raises Unavailable."""
    wanted = {"Range": f"bytes={start}-"} if start else {}
    with _response(urllib.request.Request(url, headers={"User-Agent": "fc7", **wanted}), patience) as response:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if not start or (response.status == 206 and continues) or response.status not in (206, 416):
            yield _checked(response, patience, start)
            return
    with get(url, 0, patience) as answer:  # it has no such bytes
        yield answer


def _checked(response: http.client.HTTPResponse | HTTPError, patience: Patience, start: int) -> Answer:
    if isinstance(response, HTTPError):
        raise Unavailable(f"{response.code} {response.reason}")
    begin = start if response.status == 206 else 0
    length = response.headers.get("Content-Length", "")
    # Without a length, and in chunks, the file's end would look like a cut.
    if not length.isdecimal() or len(length) > DIGITS or "Transfer-Encoding" in response.headers:
        raise Unavailable("its answer does not say how long the file is")
    return Answer(response, patience, begin, begin + int(length))


def _response(request: urllib.request.Request, patience: Patience) -> http.client.HTTPResponse | HTTPError:
    """Send the request and read the answer's headers, with any status. Raises Unavailable.

    A socket's timeout begins anew with each byte, and headers can trickle in: a thread reads them, and may be left.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=patience.silence))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience.window)
    except queue.Empty as error:
        raise Unavailable(f"no answer within {patience.window:g} s") from error
    if isinstance(answer, http.client.HTTPResponse | HTTPError):
        return answer
    if isinstance(answer, OSError | http.client.HTTPException | ValueError):  # ValueError: redirected to no address
        cause = getattr(answer, "reason", answer)  # urllib wraps the error of the socket
        raise Unavailable(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from answer
    raise answer
