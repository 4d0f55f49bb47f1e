"""The threads that answer: a few decode images, one uses the network and the index.

Memory is bounded: an upload of more than 1 MB stays in a temporary file until a thread decodes it, and the number of
requests in flight is limited. An image is decoded before it waits for the network, so a bad image delays no other.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from fastapi import UploadFile
from numpy.typing import NDArray

from service.engine import Engine
from service.errors import Busy
from service.metrics import Metrics

__all__ = ["Workers"]

A = TypeVar("A")
T = TypeVar("T")


class Workers:
    """An engine and the threads that use it. The methods are for one event loop."""

    def __init__(self, engine: Engine, metrics: Metrics, *, decoders: int, max_in_flight: int) -> None:
        self.engine = engine
        self._metrics = metrics
        self._max_in_flight, self._in_flight = max_in_flight, 0
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def infer_upload(self, upload: UploadFile, job: Callable[[NDArray[np.uint8]], T]) -> T:
        """Decode an upload and return `job` of its stored image (S, S, 3). Raises BadImage, TooManyPixels, Busy."""
        with self._admitted():
            image = await self._run(self._decoders, self._decode, upload)
            self._metrics.decoded.inc()
            return await self._run(self._network, self._timed(job), image)

    async def infer_indexed(self, image_id: int, job: Callable[[int], T]) -> T:
        """Return `job` of an image id. Raises NoSuchImage, Busy."""
        with self._admitted():
            return await self._run(self._network, self._timed(job), image_id)

    def close(self) -> None:
        """Wait for the jobs that run, drop those that wait, and close the engine."""
        self._decoders.shutdown(cancel_futures=True)
        self._network.shutdown(cancel_futures=True)
        self.engine.close()

    def _decode(self, upload: UploadFile) -> NDArray[np.uint8]:
        return self.engine.prepare(upload.file.read())

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._in_flight >= self._max_in_flight:
            raise Busy(f"{self._in_flight} requests are being answered, which is the maximum; try again in a moment")
        self._in_flight += 1
        self._metrics.admitted.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._metrics.admitted.set(self._in_flight)

    def _timed(self, job: Callable[[A], T]) -> Callable[[A], T]:
        def timed(argument: A) -> T:
            with self._metrics.inference.time():
                return job(argument)

        return timed

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, job: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, job, argument)
