"""New generations are put to use while the service answers.

A new one is opened beside the one in use, with the same network where the weights are equal; its canaries are asked;
then new requests get it, and the old one is closed when its last request is answered. One that cannot be used is
refused, and the old one goes on.
"""

import asyncio
import itertools
import logging
from contextvars import Context
from pathlib import Path

from index import Bundle, Generation
from service.canaries import Canaries
from service.engine import Engine
from service.errors import GenerationRefused
from service.lease import Served
from service.loading import needed, open_engine
from service.memory import available
from service.metrics import Metrics
from service.settings import Settings
from service.verification import Verification
from service.workers import Workers

__all__ = ["Reloading", "serve_generation", "without_paths"]

POLL = 1.0  # seconds between two looks at CURRENT
GIB = 2**30

Stamp = tuple[int, int] | None  # of CURRENT: when it was written, and its inode; None where it cannot be seen


class CanariesDiffer(RuntimeError):
    """A new generation's canaries do not give the features that are indexed."""


class TooLittleMemory(RuntimeError):
    """There is no memory for two generations."""


def serve_generation(engine: Engine, canaries: Canaries, settings: Settings, metrics: Metrics) -> Served:
    """Start to check the files of an engine that has been opened, and record that it is in use."""
    metrics.serving(engine)
    metrics.canary(canaries.worst)
    verify = None if settings.verify else engine.verify  # then `open_engine` has done it
    return Served(engine, Verification(verify, metrics.verification.state), canaries)


class Reloading:
    """Puts new generations to use, and asks the canaries of the one in use. For one event loop."""

    def __init__(self, workers: Workers, metrics: Metrics, settings: Settings) -> None:
        self.refused: str | None = None  # why the newest generation is not in use
        self._workers, self._metrics, self._settings = workers, metrics, settings
        self._one = asyncio.Lock()
        self._seen: Stamp = None  # so that the first look finds what was published while the service started
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._ask())]

    async def reload(self) -> bool:
        """Put the bundle's current generation to use; False where it is in use already. Raises GenerationRefused.

        While another call is at it, this one waits, and then looks again.
        """
        # Whoever asked may go: it is finished. In a context of its own, so that no request's stages count the canaries.
        return await asyncio.shield(asyncio.create_task(self._in_turn(), context=Context()))

    async def close(self) -> None:
        """Stop watching. A generation that is being opened is waited for, and closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._one:
            pass

    async def _in_turn(self) -> bool:
        async with self._one:
            return await self._reload()

    async def _reload(self) -> bool:
        try:
            return await self._attempt()
        except Exception as error:
            raise self._refuse(error) from error

    async def _attempt(self) -> bool:
        current = self._workers.lease.current.engine
        generation = await asyncio.to_thread(Bundle(self._settings.bundle).current)
        # A bundle that was deleted and built again begins with the same number.
        if (generation.number, generation.manifest.parts) == (current.manifest.number, current.manifest.parts):
            generation.close()
            return False
        await self._put_to_use(await asyncio.to_thread(self._opened, generation, current))
        return True

    def _opened(self, generation: Generation, beside: Engine) -> Engine:
        try:
            wants, free = needed(generation, self._settings, beside), available()
            if free is not None and wants > free:
                raise TooLittleMemory(
                    f"generation {generation.number} needs about {wants / GIB:.2f} GiB beside the one in use, "
                    f"{free / GIB:.2f} GiB are available: restart the service to load it alone"
                )
            if self._workers.lease.current.verification.damaged:
                generation.verify()  # first, because the new one may share the damaged file
        except BaseException:
            generation.close()
            raise
        return open_engine(generation, self._settings, beside)

    async def _put_to_use(self, engine: Engine) -> None:
        canaries = Canaries(engine)
        try:
            await canaries.ask_all(self._workers)
            if canaries.failed:
                raise CanariesDiffer(
                    f"images of generation {engine.manifest.number} do not give the features that it holds: "
                    f"the largest difference is {canaries.worst:.2g}, at most {canaries.tolerance:.2g} is accepted"
                )
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        self._workers.lease.swap(serve_generation(engine, canaries, self._settings, self._metrics))
        self.refused = None
        self._metrics.swaps.labels("ok").inc()
        logging.getLogger(__name__).info("generation %d is in use", engine.manifest.number)

    def _refuse(self, error: Exception) -> GenerationRefused:
        in_use = self._workers.lease.current.engine.manifest.number
        logging.getLogger(__name__).error("generation %d stays in use: %s", in_use, str(error))
        self._metrics.swaps.labels("refused").inc()
        self.refused = without_paths(error, self._settings.bundle)
        return GenerationRefused(f"{self.refused}; generation {in_use} stays in use")

    async def _watch(self) -> None:
        """Reload whenever CURRENT was written. What was refused is tried again when it is written again."""
        while True:
            await asyncio.sleep(POLL)
            stamp = await asyncio.to_thread(_stamp, self._settings.bundle)
            if stamp is not None and stamp != self._seen:
                self._seen = stamp
                try:
                    await self.reload()
                except GenerationRefused:
                    continue  # it has been told

    async def _ask(self) -> None:
        """Ask all canaries, and then one now and then, so that each is asked once in the time that is set."""
        with self._workers.lease.hold() as held:
            await held.canaries.ask_all(self._workers)
            self._metrics.canary(held.canaries.worst)
        del held  # a variable would keep a generation in memory that was replaced
        for turn in itertools.count():
            count = len(self._workers.lease.current.engine.canaries)
            await asyncio.sleep(self._settings.canary_seconds / max(1, count))
            await self._ask_one(turn)

    async def _ask_one(self, turn: int) -> None:
        with self._workers.lease.hold() as held:
            if canaries := held.engine.canaries:
                await held.canaries.ask(self._workers, canaries[turn % len(canaries)])
            self._metrics.canary(held.canaries.worst)


def without_paths(error: Exception, bundle: Path) -> str:
    """Return an error's text on one line, without the path of the bundle's folder: that is nobody's business."""
    text = str(error)
    for path in (str(bundle.resolve()), str(bundle)):
        text = text.replace(f"{path}/", "").replace(path, "the bundle")
    return " ".join(text.split()) or type(error).__name__


def _stamp(bundle: Path) -> Stamp:
    try:
        about = (bundle / "CURRENT").stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino
