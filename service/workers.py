"""What answers: a few processes decode images, one thread uses the network and the index, one searches slowly.

An upload stays in its form until a process can decode it. An image is decoded before it waits for the network, so a bad
image delays no other; and a query that takes a search of all rows waits in a lane of its own, so it delays no other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar, cast

import numpy as np
from fastapi import UploadFile
from numpy.typing import NDArray

from index import Answers
from service.background import step_back
from service.decoder_process import Limits
from service.decoding import Decoders
from service.engine import Engine, Inference, Nearest, Predicted
from service.errors import Busy
from service.lease import Lease
from service.metrics import Metrics
from service.settings import Settings
from service.stages import stage

__all__ = ["Workers"]

A = TypeVar("A")
T = TypeVar("T")


class Workers:
    """The generation in use, and the processes and threads that use it. The methods are for one event loop."""

    def __init__(self, lease: Lease, metrics: Metrics, settings: Settings) -> None:
        self.lease = lease
        self._metrics = metrics
        self._max_slow, self._searching = settings.max_slow, 0
        self.decoders = Decoders(settings.decoders, Limits.of(settings), metrics)
        self._network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow", initializer=step_back, initargs=(5,))

    async def decode(self, engine: Engine, upload: UploadFile | bytes) -> NDArray[np.uint8]:
        """Decode an upload: (S, S, 3). Raises BadImage, TooManyPixels, TooCostly, DecoderEnded, Busy."""
        with stage("decode"):
            image = await self.decoders.decode(upload, engine.side)
        self._metrics.decoded.inc()
        return image

    async def infer(self, engine: Engine, image: NDArray[np.uint8]) -> Inference:
        """Return the network's output for a stored image (S, S, 3)."""
        return await self._run(self._network, self._timed(engine.infer), image)

    async def ten_views(self, engine: Engine, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (classes,) of a stored image (S, S, 3), the mean over ten views."""
        return await self._run(self._network, self._timed(engine.ten_views), image)

    async def predicted(self, engine: Engine, image_id: int) -> Predicted:
        """Return what the network sees in an indexed image. Raises NoSuchImage."""
        return await self._run(self._network, self._timed(lambda row: engine.predicted(np.array([row]))[0]), image_id)

    async def nearest(
        self,
        engine: Engine,
        asked: NDArray[np.uint8] | NDArray[np.float32] | int,
        k: int,
        *,
        measured: bool,
        label: str | None = None,
    ) -> tuple[Inference, Nearest]:
        """Return what the network says, and the k nearest indexed images; with a label, its k nearest.

        asked: a stored image (S, S, 3) uint8, features (F,) float32, or the id of an indexed image. measured: without a
        proof, where that is faster. Raises NoSuchLabel, NoSuchImage; Busy when the query is hard and too many
        others are.
        """

        def quick(infer: Callable[[], Inference]) -> tuple[Inference, Nearest | None]:
            inference = infer()
            return inference, engine.quick(inference.features, k, measured=measured, label=label)

        if isinstance(asked, int):
            infer = partial(engine.infer_stored, asked)
        elif asked.ndim == 1:
            infer = partial(engine.infer_features, cast(NDArray[np.float32], asked))
        else:
            infer = partial(engine.infer, cast(NDArray[np.uint8], asked))
        inference, nearest = await self._run(self._network, self._timed(quick), infer)
        if nearest is None:
            nearest = await self._slowly(engine, partial(engine.slow, inference.features, label=label), k)
        self._metrics.neighbours.labels(nearest.exactness).inc()
        return inference, nearest

    async def close(self) -> None:
        """Wait for the jobs that run, drop those that wait, and close all generations."""
        await self.decoders.close()
        for pool in (self._network, self._slow):
            pool.shutdown(cancel_futures=True)
        self.lease.close()

    async def _slowly(self, engine: Engine, search: Callable[[int], Answers], k: int) -> Nearest:
        if self._searching >= self._max_slow:
            raise Busy(
                f"{self._searching} slow searches are in progress, which is the maximum; "
                "try again in a moment, or with a smaller k"
            )
        self._searching += 1
        try:
            with self._metrics.slow.time():
                answers = await self._run(self._slow, search, k)
        finally:
            self._searching -= 1
        return await self._run(self._network, engine.described, answers)

    def _timed(self, job: Callable[[A], T]) -> Callable[[A], T]:
        def timed(argument: A) -> T:
            with self._metrics.inference.time():
                return job(argument)

        return timed

    @staticmethod
    async def _run(pool: ThreadPoolExecutor, job: Callable[[A], T], argument: A) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, job, argument)
