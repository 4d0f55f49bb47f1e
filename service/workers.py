"""Off the event loop: pictures are decoded on a few threads, then one thread asks the network and the index.

Memory is bounded: an upload lies in a temporary file (beyond 1 MB) until a decoding thread reads it, and the number of
requests inside is limited. A picture is decoded before it can wait for the network: a bad one is refused without having
met another's.
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
    """An engine and the threads that may touch it. Its methods are for one event loop."""

    def __init__(self, engine: Engine, metrics: Metrics, *, decoders: int, places: int) -> None:
        self.engine = engine
        self._metrics = metrics
        self._places, self._inside = places, 0
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def picture(self, upload: UploadFile, job: Callable[[NDArray[np.uint8]], T]) -> T:
        """What `job` makes of the uploaded picture's stored image (S, S, 3). Raises BadImage, Busy."""
        with self._place():
            image = await self._run(self._decoders, self._decode, upload)
            self._metrics.decoded.inc()
            return await self._run(self._network, self._timed(job), image)

    async def indexed(self, image_id: int, job: Callable[[int], T]) -> T:
        """What `job` makes of an indexed image. Raises NoSuchImage, Busy."""
        with self._place():
            return await self._run(self._network, self._timed(job), image_id)

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._decoders.shutdown(cancel_futures=True)
        self._network.shutdown(cancel_futures=True)
        self.engine.close()

    def _decode(self, upload: UploadFile) -> NDArray[np.uint8]:
        return self.engine.prepare(upload.file.read())

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._inside >= self._places:
            raise Busy(f"{self._inside} requests are being answered, no more fit; try again in a moment")
        self._inside += 1
        self._metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.inside.set(self._inside)

    def _timed(self, job: Callable[[A], T]) -> Callable[[A], T]:
        def timed(argument: A) -> T:
            with self._metrics.inference.time():
                return job(argument)

        return timed

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, job: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, job, argument)
