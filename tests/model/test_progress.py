"""A person at a terminal sees a bar; a log file gets a plain line now and then, and the last one."""

import io
import sys
import time

import pytest

from model.progress import Meter, counting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, to be set by a test."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_at_the_end(clock: list[float]) -> None:
    stream = io.StringIO()
    meter = Meter("training", 1000, "images", done=200, stream=stream)
    for second in range(25):
        clock[0] += 1
        meter.show(200 + 20 * (second + 1), f"loss {second}")
    clock[0] += 1
    meter.show(1000)
    meter.close()
    assert stream.getvalue().splitlines() == [
        "training: 400 of 1000, 20 images a second, 30 s left, loss 9",
        "training: 600 of 1000, 20 images a second, 20 s left, loss 19",
        "training: 1000 of 1000, 31 images a second",
    ]


def test_a_job_whose_end_is_not_known_counts(clock: list[float]) -> None:
    stream = io.StringIO()
    meter = Meter("list", 0, "images", stream=stream)
    for images in (100, 220):
        clock[0] += 10
        meter.show(images)
    assert stream.getvalue().splitlines() == [
        "list: 100 images, 10 images a second",
        "list: 220 images, 11 images a second",
    ]
    stream = Terminal()
    meter = Meter("list", 0, "images", stream=stream)
    meter.show(220)
    meter.close()
    assert "list: 220 images [" in stream.getvalue()


def test_a_line_said_between_is_a_line() -> None:
    for stream in (io.StringIO(), Terminal()):
        meter = Meter("training", 10, "images", stream=stream)
        meter.show(5)
        meter.say("epoch 1")
        meter.close()
        assert "epoch 1" in stream.getvalue().replace("\r", "\n").splitlines()


def test_a_bar_starts_where_the_job_goes_on_and_shows_the_note() -> None:
    stream = Terminal()
    meter = Meter("training", 10, "images", done=4, stream=stream)
    assert "4/10" in stream.getvalue()
    meter.show(10, "loss 2.3")
    meter.close()
    assert "10/10" in stream.getvalue()
    assert "loss 2.3" in stream.getvalue()


def test_each_thing_that_is_counted_has_a_meter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    report = counting("images")
    for what in ("train", "test", "train"):
        report(what, 0, 20)
        clock[0] += 2
        report(what, 20, 20)
    lines = [f"{what}: 20 of 20, 10 images a second" for what in ("train", "test", "train")]
    assert capsys.readouterr().err.splitlines() == lines
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report("train", 3, 5)
    report("train", 5, 5)
    assert "5/5" in capsys.readouterr().err
