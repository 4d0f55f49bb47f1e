"""The collection is changed while the service answers: one change at a time, then the new generation is put to use.

A change is made in a thread of the lowest priority. What was sent while one was being made is added together. New
images go through the network one by one, between those of other requests.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from index import BadBundle
from index import Busy as BeingBuilt
from model import BadDataset, BadImage
from service.background import step_back
from service.collection import Added, Collection
from service.engine import Engine, Inference
from service.errors import Busy, CannotChange, CollectionBusy, Stopping
from service.readiness import differing
from service.reloading import Reloading, without_paths
from service.settings import Settings
from service.uploads import Upload
from service.workers import Workers

__all__ = ["Changes"]

T = TypeVar("T")
AGAIN = 0.05  # seconds until an image for which there was no place is tried again

Answers = list[Added | BadImage]


class Changes:
    """What changes one bundle. For one event loop."""

    def __init__(self, workers: Workers, reloading: Reloading, settings: Settings) -> None:
        self._workers, self._reloading, self._settings = workers, reloading, settings
        self._collection = Collection(settings)
        self._one, self._stopped = asyncio.Lock(), threading.Event()
        self._pool = ThreadPoolExecutor(1, "changes", initializer=step_back, initargs=(19,))
        self._waiting: list[tuple[Sequence[Upload], asyncio.Future[Answers]]] = []

    async def add(self, uploads: Sequence[Upload]) -> Answers:
        """Add images that were decoded once. Return, in their order, what they are when they can be found.

        Raises CollectionBusy, CannotChange, GenerationRefused, Stopping; CanaryFailed, because their features would be
        wrong, too.
        """
        if error := differing(self._workers):
            raise error
        mine: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting.append((uploads, mine))
        await self._in_turn(self._add_waiting)
        return await mine

    async def remove(self, image_id: int) -> None:
        """Remove an image, and its original if that was sent. Raises NoSuchImage, and what `add` does."""
        await self._in_turn(lambda: self._change(lambda _: self._collection.remove(image_id)))

    async def close(self) -> None:
        """Stop the change that is being made, at its next image, and wait for that."""
        self._stopped.set()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _in_turn(self, change: Callable[[], Awaitable[None]]) -> None:
        async def alone() -> None:
            async with self._one:
                await change()

        await asyncio.shield(asyncio.create_task(alone()))  # whoever asked may go: it is finished

    async def _add_waiting(self) -> None:
        """Add all that waits. Where an earlier call has done so, that is nothing."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        uploads = [upload for sent, _ in waiting for upload in sent]
        loop = asyncio.get_running_loop()

        def added(engine: Engine) -> Answers:
            return self._collection.add(uploads, engine, _Queued(engine, self._workers, loop, self._stopped))

        try:
            found = iter(await self._change(added))
        except Exception as error:
            for _, answer in waiting:
                answer.set_exception(error)
                answer.exception()  # so that it is no error in the log where its client has gone
        else:
            for sent, answer in waiting:
                answer.set_result([next(found) for _ in sent])

    async def _change(self, job: Callable[[Engine], T]) -> T:
        """Do the job in the thread, with the engine of the current generation, and put what it has made to use."""
        await self._reloading.reload()
        with self._workers.lease.hold() as held:
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._pool, job, held.engine)
            except BeingBuilt as error:
                raise CollectionBusy(
                    "another process is changing the collection; try again when it has ended"
                ) from error
            except (BadBundle, BadDataset) as error:
                raise CannotChange(f"nothing is changed: {without_paths(error, self._settings.bundle)}") from error
        await self._reloading.reload()
        return result


class _Queued:
    """An engine's network, asked through the queue of all requests. For a thread that may wait."""

    batch = 1  # so that few images are read before they are needed

    def __init__(
        self, engine: Engine, workers: Workers, loop: asyncio.AbstractEventLoop, stopped: threading.Event
    ) -> None:
        self._engine, self._workers, self._loop, self._stopped = engine, workers, loop, stopped
        self.recipe, self.width = engine.checkpoint.recipe, engine.manifest.width

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Stored images (B, S, S, 3) -> probabilities (B, classes) and features (B, F). Raises Stopping."""
        found = [self._one(image) for image in images]
        return np.stack([one.probabilities for one in found]), np.stack([one.features for one in found])

    def _one(self, image: NDArray[np.uint8]) -> Inference:
        while not self._stopped.is_set():
            try:
                return asyncio.run_coroutine_threadsafe(self._workers.infer(self._engine, image), self._loop).result()
            except Busy:
                time.sleep(AGAIN)
        raise Stopping
