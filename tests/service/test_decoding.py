"""A decoder that overruns, takes too much memory or ends costs its own image, and nothing else."""

import asyncio
import gc
import io
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from fastapi import UploadFile
from numpy.typing import NDArray

from model.preprocess import BadImage, TooManyPixels, stored_image
from service import decoding, stages
from service.decoder_process import COMMAND, DecoderEnded, Limits
from service.decoding import Decoders
from service.errors import Busy, TooCostly
from service.metrics import Metrics
from tests.images import BROKEN, IMAGES, encoded, photograph, png_header, with_scans
from tests.waiting import SECONDS, wait_until

pytestmark = pytest.mark.slow

TOY = (sys.executable, "-m", "tests.service.toy_decoder")
WIDE = Limits(seconds=SECONDS, memory=1_000_000_000, max_pixels=30_000_000)
SHORT = Limits(seconds=0.3, memory=1_000_000_000, max_pixels=30_000_000)


@asynccontextmanager
async def started(
    count: int, limits: Limits = WIDE, command: tuple[str, ...] = TOY, metrics: Metrics | None = None
) -> AsyncIterator[Decoders]:
    """Decoders that are all alive."""
    decoders = Decoders(count, limits, metrics or Metrics(), command)
    try:
        await until(lambda: len(decoders.pids) == count)
        yield decoders
    finally:
        await decoders.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, SECONDS))


async def value(answer: Awaitable[NDArray[np.uint8]]) -> int:
    """The one value of a toy's image."""
    image = await answer
    assert image.shape == (8, 8, 3)
    (found,) = np.unique(image).tolist()
    return int(found)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_images_are_those_that_are_decoded_here(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    images = [make() for make in IMAGES.values()] + [encoded(photograph(seed=seed)) for seed in range(20)]

    async def main() -> None:
        async with started(2, command=COMMAND) as decoders:
            found = await asyncio.gather(*(decoders.decode(data, 32) for data in images))
            assert len(decoders.pids) == 2
        for data, image in zip(images, found, strict=True):
            np.testing.assert_array_equal(image, stored_image(data, 32))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))


def test_refusals_are_those_of_decoding_here() -> None:
    async def main() -> None:
        async with started(1, command=COMMAND) as decoders:
            for name in ("truncated JPEG", "JPEG of 400 scans", "SVG", "empty"):
                with pytest.raises(BadImage) as here:
                    stored_image(BROKEN[name](), 32)
                with pytest.raises(BadImage) as there:
                    await decoders.decode(BROKEN[name](), 32)
                assert str(there.value) == str(here.value)
            with pytest.raises(TooManyPixels, match="6000 x 6000 pixels, more than the limit of 30,000,000"):
                await decoders.decode(png_header(6000, 6000), 32)

    run(main())


def test_the_process_has_no_network_and_no_index() -> None:
    async def main() -> None:
        async with started(1, command=COMMAND) as decoders:
            await decoders.decode(encoded(photograph()), 32)
            (pid,) = decoders.pids
            mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "numpy" in mapped
        assert not [name for name in ("torch", "faiss", "openvino") if name in mapped]

    run(main())


def test_an_image_that_takes_too_long_is_refused_and_those_behind_it_are_decoded() -> None:
    async def main() -> None:
        async with started(1, SHORT) as decoders:
            before = decoders.pids
            hostile = asyncio.create_task(decoders.decode(b"sleep", 8))
            others = [asyncio.create_task(value(decoders.decode(b"%d" % number, 8))) for number in range(5)]
            with pytest.raises(TooCostly, match=r"^decoding it takes longer than the limit of 0\.3 s$"):
                await hostile
            assert await asyncio.gather(*others) == list(range(5))
            assert len(decoders.pids) == 1
            assert not decoders.pids & before

    run(main())


def test_a_slow_jpeg_that_has_no_more_scans_than_are_allowed_is_refused_by_its_time() -> None:
    data = with_scans(40, photograph(4000, 5000))
    limits = Limits(seconds=0.1, memory=WIDE.memory, max_pixels=WIDE.max_pixels)

    async def main() -> None:
        async with started(1, limits, COMMAND) as decoders:
            with pytest.raises(TooCostly):  # decoded whole it takes 0.3 s
                await decoders.decode(data, 32)

    run(main())


def test_an_image_that_needs_too_much_memory_is_refused() -> None:
    limits = Limits(seconds=SECONDS, memory=20_000_000, max_pixels=30_000_000)
    large, small = encoded(np.zeros((4000, 4000, 3), np.uint8), compress_level=1), encoded(photograph())

    async def main() -> None:
        async with started(1, limits, COMMAND) as decoders:
            for _ in range(2):
                with pytest.raises(
                    TooCostly, match=r"^decoding it needs more memory than the limit of 20,000,000 bytes$"
                ):
                    await decoders.decode(large, 32)
                np.testing.assert_array_equal(await decoders.decode(small, 32), stored_image(small, 32))
            await until(lambda: len(decoders.pids) == 1)

    run(main())


def test_memory_is_given_back_by_ending_the_process() -> None:
    async def main() -> None:
        async with started(1) as decoders:
            before = decoders.pids
            with pytest.raises(TooCostly):
                await decoders.decode(b"take", 8)
            assert await value(decoders.decode(b"7", 8)) == 7
            assert not decoders.pids & before

    run(main())


def test_a_process_that_is_killed_while_it_decodes_takes_no_other_image_with_it() -> None:
    async def main() -> None:
        async with started(2) as decoders:
            victim, other = (asyncio.create_task(decoders.decode(b"sleep", 8)) for _ in range(2))
            waiting = [asyncio.create_task(value(decoders.decode(b"%d" % number, 8))) for number in range(5)]
            await asyncio.sleep(0.05)
            killed = min(decoders.pids)
            os.kill(killed, signal.SIGKILL)
            done, _ = await asyncio.wait([victim, other], return_when=asyncio.FIRST_COMPLETED)
            (ended,) = done
            with pytest.raises(DecoderEnded, match="^the image cannot be decoded: the process that decoded it ended$"):
                ended.result()
            assert await asyncio.gather(*waiting) == list(range(5))
            still = other if ended is victim else victim
            assert not still.done()
            assert killed not in decoders.pids
            assert len(decoders.pids) == 2
            still.cancel()

    run(main())


def test_a_fault_of_the_decoder_is_one_image_s() -> None:
    async def main() -> None:
        async with started(1) as decoders:
            with pytest.raises(DecoderEnded):
                await decoders.decode(b"break", 8)
            assert await value(decoders.decode(b"7", 8)) == 7

    run(main())


def test_idle_processes_that_are_killed_are_replaced() -> None:
    async def main() -> None:
        async with started(2) as decoders:
            before = decoders.pids
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: len(decoders.pids) < 2)
            answers = (value(decoders.decode(b"%d" % number, 8)) for number in range(5))
            assert await asyncio.gather(*answers) == list(range(5))
            await until(lambda: len(decoders.pids) == 2)
            assert not decoders.pids & before
            assert decoders.problem is None

    run(main())


def test_a_client_that_hangs_up_leaves_its_process_to_the_next() -> None:
    async def main() -> None:
        async with started(1) as decoders:
            before = decoders.pids
            inside = asyncio.create_task(decoders.decode(b"1", 8))
            waiting = [asyncio.create_task(decoders.decode(b"%d" % number, 8)) for number in (2, 3)]
            await asyncio.sleep(0)
            for task in (inside, waiting[0]):
                task.cancel()
            assert await value(waiting[1]) == 3

            async def first() -> None:
                await decoders.decode(b"4", 8)
                second.cancel()  # whose turn has come in the same pass of the loop

            begun = asyncio.create_task(first())
            await asyncio.sleep(0)
            second = asyncio.create_task(decoders.decode(b"5", 8))
            await begun
            with pytest.raises(asyncio.CancelledError):
                await second
            assert await value(decoders.decode(b"6", 8)) == 6
            assert decoders.pids == before

    run(main())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_process_that_is_ended_while_its_answer_is_in_the_socket_gets_no_other_image(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with started(1) as decoders:
            answer = asyncio.create_task(value(decoders.decode(b"1", 8)))
            await asyncio.sleep(0)
            (process,) = decoders._alive
            assert select.select([process._transport.get_extra_info("socket").fileno()], [], [], SECONDS)[0]
            process._overrun()
            assert await answer == 1
            assert await value(decoders.decode(b"2", 8)) == 2

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))


def test_an_upload_that_cannot_be_read_leaves_its_process_to_the_next() -> None:
    class Broken(UploadFile):
        async def read(self, _size: int = -1) -> bytes:
            raise OSError("the disk")

    async def main() -> None:
        async with started(1) as decoders:
            with pytest.raises(OSError, match="the disk"):
                await decoders.decode(Broken(io.BytesIO()), 8)
            assert await value(decoders.decode(UploadFile(io.BytesIO(b"6")), 8)) == 6

    run(main())


def test_an_upload_whose_process_ends_while_it_is_read_goes_whole_to_the_next() -> None:
    async def main() -> None:
        async with started(1) as decoders:

            class Slow(UploadFile):
                async def read(self, size: int = -1) -> bytes:
                    for pid in decoders.pids:
                        os.kill(pid, signal.SIGKILL)
                    while decoders.pids:
                        await asyncio.sleep(0.01)
                    return await super().read(size)

            assert await value(decoders.decode(Slow(io.BytesIO(b"6")), 8)) == 6

    run(main())


def test_what_the_libraries_print_is_logged_with_the_request_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with started(1) as decoders:
            record = stages.begin()
            assert await value(decoders.decode(b"print", 8)) == 0
            (line,) = (found for found in caplog.records if found.name == "service.decoder_process")
            assert f"request {record.request_id}: " in line.getMessage()
            assert r"\n\x1b[31mxxx" in line.getMessage()  # on one line
            assert "64000 bytes were printed" in line.getMessage()
            assert len(line.getMessage()) < 2200
            caplog.clear()
            assert await value(decoders.decode(b"1", 8)) == 1
            assert not caplog.records

    with caplog.at_level(logging.WARNING):
        run(main())


def test_what_they_print_costs_no_image_where_it_cannot_be_read(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_file: int, _size: int) -> None:
        raise OSError("the disk")

    async def main() -> None:
        async with started(1) as decoders:
            before = decoders.pids
            for data in (b"print", b"7"):
                assert await value(decoders.decode(data, 8)) == int(data == b"7") * 7
            assert decoders.pids == before
        assert "what was printed while it decoded cannot be read: the disk" in caplog.text

    monkeypatch.setattr(os, "ftruncate", broken)
    run(main())


@pytest.mark.parametrize("command", ["nothing/here", "false"])
def test_where_no_process_can_be_started_images_are_refused_until_one_can(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "RETRY_SECONDS", 0.1)
    program = tmp_path / "program"

    async def main() -> None:
        decoders = Decoders(1, WIDE, Metrics(), (str(program),))
        waiting = asyncio.create_task(decoders.decode(b"1", 8))
        refusal = "a process that decodes images cannot be started; the server's log says why$"
        with pytest.raises(Busy, match=refusal):
            await waiting
        assert decoders.problem
        with pytest.raises(Busy, match=refusal):
            await decoders.decode(b"1", 8)
        written = tmp_path / "written"
        written.write_text(f'#!/bin/sh\nexec {" ".join(TOY)} "$@"\n')
        written.chmod(0o755)
        written.rename(program)
        await until(lambda: decoders.problem is None)
        assert await value(decoders.decode(b"1", 8)) == 1
        await decoders.close()

    if command == "false":
        program.symlink_to("/bin/false")
    run(main())


def test_the_metrics_count_what_is_alive_and_why_others_ended() -> None:
    async def main() -> None:
        metrics = Metrics()
        async with started(1, SHORT, metrics=metrics) as decoders:
            answers = [decoders.decode(data, 8) for data in (b"sleep", b"take", b"break", b"1")]
            await asyncio.gather(*answers, return_exceptions=True)
            lines = metrics.text().decode().splitlines()
        assert "fc7_decoders 1.0" in lines
        for reason in ("time", "memory", "crash"):
            assert f'fc7_decoders_lost_total{{reason="{reason}"}} 1.0' in lines

    run(main())


def test_closing_ends_the_processes_and_what_waits_for_them() -> None:
    async def main() -> None:
        async with started(1) as decoders:
            gone = decoders.pids
            inside, waiting = (asyncio.create_task(decoders.decode(b"sleep", 8)) for _ in range(2))
            await asyncio.sleep(0.05)
        with pytest.raises(DecoderEnded):
            await inside
        for late in (waiting, decoders.decode(b"1", 8)):
            with pytest.raises(Busy, match="the service is stopping$"):
                await late
        assert not any(Path(f"/proc/{pid}").exists() for pid in gone)

    run(main())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_ends_processes_that_are_being_started(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    failures = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        for steps in range(5):
            decoders = Decoders(1, WIDE, Metrics(), ("sleep", "600"))
            for _ in range(steps):
                await asyncio.sleep(0)
            await decoders.close()
        gc.collect()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS))
    assert not failures


def test_a_request_that_is_cancelled_while_it_is_refused_is_cancelled() -> None:
    async def main() -> None:
        async with started(1) as decoders:
            inside, waiting = (asyncio.create_task(decoders.decode(b"sleep", 8)) for _ in range(2))
            await asyncio.sleep(0)
            closing = asyncio.create_task(decoders.close())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.gather(inside, closing, return_exceptions=True)

    run(main())


PARENT = """
import asyncio
from service.decoding import Decoders
from service.metrics import Metrics
from tests.service.test_decoding import SHORT, TOY

async def main():
    decoders = Decoders(2, SHORT, Metrics(), TOY)
    while len(decoders.pids) < 2:
        await asyncio.sleep(0.01)
    busy = asyncio.create_task(decoders.decode(b"sleep", 8))
    await asyncio.sleep(0.05)
    print(*decoders.pids, flush=True)
    import time; time.sleep(600)

asyncio.run(main())
"""


def test_the_processes_end_with_the_service_even_one_that_decodes() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        children = [int(pid) for pid in parent.stdout.readline().split()]
        groups = {os.getpgid(pid) for pid in children}
        parent.kill()
    assert len(children) == 2
    assert not groups & {os.getpgid(0)}  # else Ctrl-C would end them before the service has finished
    wait_until(lambda: not any(alive(pid) for pid in children))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
