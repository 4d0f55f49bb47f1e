"""What answers: a few processes decode images, one thread uses the network and the index, one searches slowly.

An upload stays in its form until a process can decode it. An image is decoded before it waits for the network, so a bad
image delays no other; and a query that takes a search of all rows waits in a lane of its own, so it delays no other.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from fastapi import UploadFile
from numpy.typing import NDArray

from service.background import step_back
from service.batcher import Answer, Batcher
from service.decoder_process import Limits
from service.decoding import Decoders
from service.engine import Asked, Engine, Find, Inference, Nearest, Predicted
from service.errors import Busy
from service.lease import Lease
from service.metrics import Metrics
from service.settings import Settings
from service.stages import note, record, stage

__all__ = ["Workers"]


class Workers:
    """The generation in use, and the processes and threads that use it. The methods are for one event loop."""

    def __init__(self, lease: Lease, metrics: Metrics, settings: Settings) -> None:
        self.lease = lease
        self._metrics = metrics
        self._max_slow, self._searching = settings.max_slow, 0
        self.decoders = Decoders(settings.decoders, Limits.of(settings), metrics)
        self._batcher = Batcher(metrics, settings.max_batch)
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow", initializer=step_back, initargs=(5,))

    async def decode(self, engine: Engine, upload: UploadFile | bytes) -> NDArray[np.uint8]:
        """Decode an upload: (S, S, 3). Raises BadImage, TooManyPixels, TooCostly, DecoderEnded, Busy."""
        with stage("decode"):
            image = await self.decoders.decode(upload, engine.side)
        self._metrics.decoded.inc()
        return image

    async def infer(self, engine: Engine, image: NDArray[np.uint8]) -> Inference:
        """Return the network's output for a stored image (S, S, 3)."""
        return self._noted(await self._batcher.ask(engine, image)).inference

    async def ten_views(self, engine: Engine, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (classes,) of a stored image (S, S, 3), the mean over ten views."""
        begun = time.perf_counter()

        def job() -> tuple[NDArray[np.float32], float, float]:
            started = time.perf_counter()
            return engine.ten_views(image), started - begun, time.perf_counter() - started

        probabilities: NDArray[np.float32]
        probabilities, queue, forward = await self._batcher.run(job)
        record("queue", queue)
        record("forward", forward)
        return probabilities

    async def predicted(self, engine: Engine, image_id: int) -> Predicted:
        """Return what the network sees in an indexed image. Raises NoSuchImage."""
        found: list[Predicted] = await self._batcher.run(partial(engine.predicted, np.array([image_id])))
        return found[0]

    async def nearest(
        self, engine: Engine, asked: Asked, k: int, *, measured: bool, label: str | None = None
    ) -> tuple[Inference, Nearest]:
        """Return what the network says, and the k nearest indexed images; with a label, its k nearest.

        asked: a stored image (S, S, 3) uint8, features (F,) float32, or the id of an indexed image. measured: without a
        proof, where that is faster. Raises NoSuchLabel, NoSuchImage; Busy when the query is hard and too many
        others are.
        """
        if isinstance(asked, int):
            engine.check_id(asked)  # a batch with an id that there is not would be asked again one by one
        find = Find(k, measured, label)
        answer = self._noted(await self._batcher.ask(engine, asked, find))
        nearest = answer.nearest or await self._slowly(engine, answer.inference.features, find)
        self._metrics.neighbours.labels(nearest.exactness).inc()
        return answer.inference, nearest

    async def close(self) -> None:
        """Wait for the jobs that run, drop those that wait, and close all generations."""
        await self.decoders.close()
        self._slow.shutdown(cancel_futures=True)
        self._batcher.close()
        self.lease.close()

    async def _slowly(self, engine: Engine, features: NDArray[np.float32], find: Find) -> Nearest:
        if self._searching >= self._max_slow:
            raise Busy(
                f"{self._searching} slow searches are in progress, which is the maximum; "
                "try again in a moment, or with a smaller k"
            )
        self._searching += 1
        try:
            with self._metrics.slow.time(), stage("rerank"):
                loop = asyncio.get_running_loop()
                answers = await loop.run_in_executor(self._slow, engine.slow, features, find)
        finally:
            self._searching -= 1
        found: list[Nearest] = await self._batcher.run(partial(engine.described, answers))
        return found[0]

    @staticmethod
    def _noted(answer: Answer) -> Answer:
        record("queue", answer.queue)
        record("forward", answer.forward)
        if answer.search:
            record("search", answer.search)
            record("rerank", answer.rerank)
        note(batch=answer.batch)
        return answer
