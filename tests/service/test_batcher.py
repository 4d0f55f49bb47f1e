"""Requests share passes of the network, and each gets the answer that it gets alone."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index import Image
from model.preprocess import stored_image
from service.batcher import Answer, Batcher
from service.engine import Asked, Engine, Find, Found, Inference, Nearest, Predicted
from service.metrics import Metrics
from tests.service.bundles import BROKEN, image_file
from tests.waiting import SECONDS

GUILTY = 13


class Toy:
    """An engine whose answers say what was asked. A pass waits until `go` is set, and fails with GUILTY in it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.passes: list[list[int]] = []
        self.searches: list[tuple[Find, list[int]]] = []

    def infer_all(self, asked: Sequence[Asked]) -> list[Inference]:
        self.entered.set()
        assert self.go.wait(SECONDS)
        numbers = [number(one) for one in asked]
        self.passes.append(numbers)
        if GUILTY in numbers:
            raise ValueError("an image that breaks the pass")
        return [Inference(np.full(2, 10 * n, np.float32), np.full(3, n, np.float32)) for n in numbers]

    def find_all(self, features: Sequence[NDArray[np.float32]], find: Find) -> tuple[list[Nearest | None], float]:
        numbers = [int(one[0]) for one in features]
        self.searches.append((find, numbers))
        return [nearest(n, find) for n in numbers], 0.0


def number(asked: Asked) -> int:
    return asked if isinstance(asked, int) else int(asked.reshape(-1)[0])


def nearest(n: int, find: Find) -> Nearest | None:
    """Return what the toy finds; some questions are hard."""
    image = Image(n, str(find), (), None, 0, "", b"", "")
    return None if n % 7 == 6 else Nearest([Found(image, Predicted(n, 0.5), float(find.k))], "certified")


@contextmanager
def batcher(most: int = 16) -> Iterator[Batcher]:
    made = Batcher(Metrics(), most)
    try:
        yield made
    finally:
        made.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, SECONDS))


async def held(network: Batcher, toy: Toy) -> "asyncio.Task[Any]":
    """Keep the network busy with a question until toy.go is set, so that others must wait."""
    toy.go.clear()
    first = asyncio.create_task(network.ask(toy, 0))
    await asyncio.to_thread(toy.entered.wait, SECONDS)
    return first


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(1, [1]), (3, [3]), (5, [4, 1]), (6, [6]), (9, [9]), (11, [10, 1]), (12, [12]), (20, [16, 4])],
)
def test_what_waits_is_one_pass_of_a_size_that_wastes_little(waiting: int, expected: list[int]) -> None:
    async def main() -> None:
        toy = Toy()
        with batcher() as network:
            first = await held(network, toy)
            others = [asyncio.create_task(network.ask(toy, n)) for n in range(100, 100 + waiting)]
            await asyncio.sleep(0)
            toy.go.set()
            answers = await asyncio.gather(first, *others)
        assert [len(numbers) for numbers in toy.passes] == [1, *expected]
        assert [n for numbers in toy.passes for n in numbers] == [
            0,
            *range(100, 100 + waiting),
        ]  # in the order in which they came
        assert [answer.batch for answer in answers[1:]] == [size for size in expected for _ in range(size)]

    run(main())


def test_a_pass_is_no_larger_than_the_setting() -> None:
    async def main() -> None:
        toy = Toy()
        with batcher(most=3) as network:
            first = await held(network, toy)
            others = [asyncio.create_task(network.ask(toy, n)) for n in range(7)]
            await asyncio.sleep(0)
            toy.go.set()
            await asyncio.gather(first, *others)
        assert [len(numbers) for numbers in toy.passes] == [1, 3, 3, 1]

    run(main())


def test_the_searches_of_a_pass_are_one_for_each_kind() -> None:
    async def main() -> None:
        toy = Toy()
        kinds = [Find(6), Find(6), None, Find(6, measured=True), Find(2), Find(6, label="cat"), Find(6)]
        with batcher() as network:
            first = await held(network, toy)
            others = [asyncio.create_task(network.ask(toy, n, find)) for n, find in enumerate(kinds)]
            await asyncio.sleep(0)
            toy.go.set()
            await asyncio.gather(first, *others)
        assert dict(toy.searches) == {
            Find(6): [0, 1, 6],
            Find(6, measured=True): [3],
            Find(2): [4],
            Find(6, label="cat"): [5],
        }
        assert len(toy.searches) == 4

    run(main())


def test_one_that_breaks_a_pass_is_the_only_one_that_fails() -> None:
    async def main() -> None:
        toy = Toy()
        with batcher() as network:
            first = await held(network, toy)
            others = [asyncio.create_task(network.ask(toy, n)) for n in range(GUILTY - 3, GUILTY + 3)]
            await asyncio.sleep(0)
            toy.go.set()
            await first
            answers = await asyncio.gather(*others, return_exceptions=True)
            assert number((await network.ask(toy, 5)).inference.features) == 5  # the thread is still there
        failed = answers.pop(3)
        assert (type(failed), str(failed)) == (ValueError, "an image that breaks the pass")
        assert [number(a.inference.features) for a in answers if isinstance(a, Answer)] == [10, 11, 12, 14, 15]

    run(main())


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(3), asyncio.CancelledError(3)], ids=repr)
def test_what_no_future_can_raise_fails_its_question_and_no_other(error: BaseException) -> None:
    def broken() -> None:
        raise error

    async def main() -> None:
        toy = Toy()
        with batcher() as network:
            with pytest.raises(RuntimeError, match=f"^{type(error).__name__}: 3$"):
                await network.run(broken)
            assert number((await network.ask(toy, 5)).inference.features) == 5

    run(main())


def test_a_client_that_hung_up_is_dropped_before_the_network_sees_it() -> None:
    async def main() -> None:
        toy = Toy()
        with batcher() as network:
            first = await held(network, toy)
            others = [asyncio.create_task(network.ask(toy, n)) for n in range(1, 5)]
            await asyncio.sleep(0)
            for gone in (first, others[1]):  # one is in the network, one waits
                gone.cancel()
            await asyncio.sleep(0)
            toy.go.set()
            answers = await asyncio.gather(*others, return_exceptions=True)
        assert toy.passes == [[0], [1, 3, 4]]
        assert isinstance(answers[1], asyncio.CancelledError)

    run(main())


def test_generations_do_not_share_a_pass_and_a_job_has_the_thread_alone() -> None:
    async def main() -> None:
        old, new = Toy(), Toy()
        with batcher() as network:
            first = await held(network, old)
            mixed = [asyncio.create_task(network.ask(toy, n)) for n, toy in enumerate((new, old, new, old), 1)]
            job = asyncio.create_task(network.run(lambda: (len(old.passes), threading.current_thread().name)))
            await asyncio.sleep(0)
            old.go.set()
            await asyncio.gather(first, *mixed)
            assert await job == (2, "network")
            with pytest.raises(ZeroDivisionError):
                await network.run(lambda: 1 // 0)
        assert (new.passes, old.passes) == ([[1, 3]], [[0], [2, 4]])

    run(main())


def test_what_waits_when_it_closes_is_cancelled() -> None:
    async def main() -> None:
        toy = Toy()
        network = Batcher(Metrics(), 16)
        first = await held(network, toy)
        waiting = asyncio.create_task(network.ask(toy, 1))
        await asyncio.sleep(0)
        threading.Timer(0.05, toy.go.set).start()
        network.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await first
        with pytest.raises(asyncio.CancelledError):
            await network.ask(toy, 2)
        assert toy.passes == [[0]]

    run(main())


Step = tuple[int, Find | None, bool, bool]  # what is asked and found, whether the client hangs up, whether time passes
steps = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.one_of(st.none(), st.builds(Find, st.integers(1, 3), st.booleans())),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_in_any_mixture_each_gets_its_own_answer(asked: list[Step], most: int) -> None:
    async def main() -> None:
        toy = Toy()
        with batcher(most) as network:
            tasks = []
            for n, find, leaves, pause in asked:
                tasks.append(asyncio.create_task(network.ask(toy, n, find)))
                await asyncio.sleep(0.0005 if pause else 0)
                if leaves:
                    tasks[-1].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        for (n, find, leaves, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                assert leaves
            elif isinstance(answer, BaseException):
                assert n == GUILTY
            else:
                assert n != GUILTY
                assert number(answer.inference.features) == n
                assert number(answer.inference.probabilities) == 10 * n
                assert answer.nearest == (nearest(n, find) if find else None)

    run(main())


def test_answers_of_a_batch_are_those_of_one_alone(engine: Engine) -> None:
    asked: list[Asked] = [stored_image(image_file(n), engine.side) for n in range(20) if n != BROKEN]
    features = engine.infer_all([3])[0].features
    asked = [*asked, 3, 5, features]
    together = engine.infer_all(asked)
    found, _ = engine.find_all([one.features for one in together], Find(6))
    for one, inference, near in zip(asked, together, found, strict=True):
        (alone,) = engine.infer_all([one])
        for name in ("probabilities", "features"):
            expected = getattr(alone, name)
            np.testing.assert_allclose(
                getattr(inference, name), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
            )
        ((near_alone,), _) = engine.find_all([alone.features], Find(6))
        assert near is not None
        assert near_alone is not None
        assert [one.image for one in near.found] == [one.image for one in near_alone.found]
        assert [one.predicted.class_id for one in near.found] == [one.predicted.class_id for one in near_alone.found]
        distances = [[one.distance for one in of.found] for of in (near, near_alone)]
        np.testing.assert_allclose(distances[0], distances[1], rtol=1e-5, atol=1e-3)
