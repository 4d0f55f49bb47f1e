"""One queue and one thread for the network: whatever waits is answered in one pass, so nothing waits while it is idle.

A batch is one pass of the network, one search for each kind of search in it, and one look at what was found. Where it
fails its questions are asked again one by one, so that only the guilty one gets the error. A question whose client has
hung up is dropped before the network sees it.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.engine import Asked, Find, Inference, Nearest
from service.metrics import Metrics

__all__ = ["Answer", "Batcher", "sizes"]

# For these sizes OpenVINO has kernels (`padded`); a pass of 32 takes twice as long as one of 16.
SIZES = (1, 2, 4, 8, 10, 16)
FULL = 0.75  # the share of a size from which a pass of it is quicker than a smaller one, and the others later


def sizes(most: int) -> tuple[int, ...]:
    """Return the sizes of batches of at most `most` questions."""
    return (*(size for size in SIZES if size < most), most)


class Batches(Protocol):
    """What is needed of an engine."""

    def infer_all(self, asked: Sequence[Asked]) -> list[Inference]: ...
    def find_all(self, features: Sequence[Any], find: Find) -> tuple[list[Nearest | None], float]: ...


@dataclass(frozen=True)
class Answer:
    """What became of a question, and how long that took."""

    inference: Inference
    nearest: Nearest | None  # None where nothing was to be found, or where only a slow search can
    batch: int  # questions in its pass
    queue: float  # seconds, as the following
    forward: float
    search: float
    rerank: float


@dataclass(eq=False)
class Question:
    """Something for the network's thread, and who waits for it."""

    engine: Batches | None  # None for a job
    asked: Any  # Asked; for a job a function
    find: Find | None
    answer: "asyncio.Future[Any]"
    begun: float = field(default_factory=time.perf_counter)


class Batcher:
    """The network's thread and its queue. `ask` and `run` are for one event loop."""

    def __init__(self, metrics: Metrics, most: int) -> None:
        """most: questions in one pass."""
        self._metrics = metrics
        self._sizes = sizes(most)
        self._waiting: deque[Question] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="network")
        self._thread.start()

    async def ask(self, engine: Batches, asked: Asked, find: Find | None = None) -> Answer:
        """Return what the network says, and what `find` asks for. Raises what the engine raises for this question."""
        answer: Answer = await self._put(engine, asked, find)
        return answer

    async def run(self, job: Callable[[], Any]) -> Any:
        """Run a function in the network's thread, between two batches. Raises what it raises."""
        return await self._put(None, job, None)

    def close(self) -> None:
        """Wait for the batch that is answered; what waits, or comes later, is cancelled."""
        with self._changed:
            self._closing = True
            for question in self._waiting:
                question.answer.cancel()
            self._changed.notify()
        self._thread.join()

    def _put(self, engine: Batches | None, asked: Any, find: Find | None) -> "asyncio.Future[Any]":
        question = Question(engine, asked, find, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closing:
                question.answer.cancel()
            self._waiting.append(question)
            self._metrics.queue_depth.set(len(self._waiting))
            self._changed.notify()
        return question.answer

    def _work(self) -> None:
        while batch := self._next():
            self._deliver(self._answered(batch))

    def _next(self) -> list[Question]:
        """Wait for a batch: the oldest question and others for its engine, in order. None are left when it closes."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return []
                alive = [question for question in self._waiting if not question.answer.cancelled()]
                batch = self._chosen(alive)
                self._waiting = deque(question for question in alive if question not in batch)
                self._metrics.queue_depth.set(len(self._waiting))
                if batch:
                    return batch

    def _chosen(self, waiting: list[Question]) -> list[Question]:
        if not waiting or waiting[0].engine is None:
            return waiting[:1]
        same = [question for question in waiting if question.engine is waiting[0].engine]
        size = max(size for size in self._sizes if len(same) >= FULL * size)
        return same[:size]

    def _answered(self, batch: list[Question]) -> list[tuple[Question, Any]]:
        """Return each question with its answer or its exception."""
        engine = batch[0].engine
        try:
            if engine is None:
                return [(batch[0], batch[0].asked())]
            return list(zip(batch, self._pass(engine, batch), strict=True))
        except BaseException as error:  # whatever it is, the thread goes on
            if len(batch) == 1:
                return [(batch[0], _raisable(error))]
        return [answered for question in batch for answered in self._answered([question])]

    def _pass(self, engine: Batches, batch: list[Question]) -> list[Answer]:
        begun = time.perf_counter()
        inferences = engine.infer_all([question.asked for question in batch])
        forward = time.perf_counter() - begun
        self._metrics.batch_size.observe(len(batch))
        nearest: dict[Question, Nearest | None] = {}
        took: dict[Find | None, tuple[float, float]] = {None: (0.0, 0.0)}
        for find in {question.find for question in batch if question.find}:
            asking = [place for place, question in enumerate(batch) if question.find == find]
            searched = time.perf_counter()
            found, rerank = engine.find_all([inferences[place].features for place in asking], find)
            took[find] = time.perf_counter() - searched - rerank, rerank
            nearest |= {batch[place]: one for place, one in zip(asking, found, strict=True)}
        return [
            Answer(inference, nearest.get(of), len(batch), begun - of.begun, forward, *took[of.find])
            for of, inference in zip(batch, inferences, strict=True)
        ]

    def _deliver(self, answered: list[tuple[Question, Any]]) -> None:
        """Hand the answers over in one step of the event loop."""

        def hand_over() -> None:
            for question, answer in answered:
                if question.answer.done():  # the client has hung up meanwhile
                    continue
                if isinstance(answer, Exception):
                    question.answer.set_exception(answer)
                else:
                    question.answer.set_result(answer)

        answered[0][0].answer.get_loop().call_soon_threadsafe(hand_over)


def _raisable(error: BaseException) -> Exception:
    """Return what a future can raise. SystemExit, say, would end the event loop, and StopIteration no future takes."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
