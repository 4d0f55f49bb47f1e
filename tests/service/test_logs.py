"""The log's lines: whole, short, few, and of no consequence to an answer when they cannot be written."""

import json
import logging
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest

from service.logs import LONGEST, AsJson, AsText, Lines, logging_for
from service.settings import Settings
from service.stages import begin


@dataclass
class Written:
    """A logger whose lines go to a pipe."""

    logger: logging.Logger
    lines: Lines
    end: int

    def read(self) -> list[str]:
        """Close the log and return its lines."""
        self.lines.close()
        with open(self.end, encoding="utf-8", closefd=False) as text:
            return text.read().splitlines()

    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read()]


@contextmanager
def written(formatter: logging.Formatter) -> Iterator[Written]:
    end, start = os.pipe()
    os.set_blocking(end, False)
    lines, logger = Lines(start), logging.Logger("test")
    lines.setFormatter(formatter)
    logger.addHandler(lines)
    yield Written(logger, lines, end)
    lines.close()
    os.close(start)
    os.close(end)


@pytest.fixture
def log() -> Iterator[Written]:
    with written(AsJson()) as log:
        yield log


@pytest.fixture
def text() -> Iterator[Written]:
    with written(AsText()) as text:
        yield text


def test_a_line_is_one_json_object(log: Written) -> None:

    def within_a_request() -> None:
        begin("abc")
        log.logger.info("two\nlines %d", 7, extra={"fields": {"status": 200}, "kind": "x"})

    copy_context().run(within_a_request)
    (line,) = log.json()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "test",
        "message": "two\nlines 7",
        "request_id": "abc",
        "status": 200,
    }


def test_a_trace_is_in_the_same_line_and_names_the_cause(log: Written) -> None:
    try:
        raise RuntimeError("after") from ValueError("before")
    except RuntimeError:
        log.logger.exception("failed")
    (line,) = log.json()
    assert "ValueError: before" in line["trace"]
    assert line["trace"].endswith("RuntimeError: after\n")


@pytest.mark.parametrize("long", ["x", "é", "\n", '"', "\U0001f600"])
@pytest.mark.parametrize("form", [AsJson(), AsText()])
def test_no_line_is_longer_than_a_pipe_takes_whole(long: str, form: logging.Formatter) -> None:
    with written(form) as log:
        log.logger.warning("start %s", 10_000 * long)
        try:
            raise RuntimeError(10_000 * long + "end")
        except RuntimeError:
            log.logger.exception("failed")
        log.lines.close()
        data = os.read(log.end, 100_000)
    assert len(data) <= 2 * LONGEST
    assert b"start" in data[:200]
    assert b"failed" in data
    assert b"end" in data[-10:]
    if isinstance(form, AsJson):
        assert len([json.loads(line) for line in data.splitlines()]) == 2


@pytest.mark.parametrize("more", [{}, {"fields": {"status": object()}}])
def test_a_line_that_cannot_be_made_fails_nobody(more: dict[str, Any], log: Written) -> None:
    log.logger.warning("%d images" if not more else "images", *([] if more else ["no number"]), extra=more)
    (line,) = log.json()
    assert (line["level"], "a line of test cannot be made" in line["message"]) == ("error", True)


def test_lines_that_repeat_are_counted(log: Written) -> None:
    for _ in range(5_000):
        log.logger.info("POST /classify 503", extra={"kind": "POST /classify 503"})
    log.logger.info("another", extra={"kind": "GET / 200"})
    lines = log.json()
    assert len(lines) < 1000
    assert any(line["message"] == "another" for line in lines)
    left_out = sum(line["left_out"]["POST /classify 503"] for line in lines if "left_out" in line)
    assert left_out + sum(line["message"] == "POST /classify 503" for line in lines) == 5_000


def test_failures_are_fewer_lines_than_answers(log: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    for _ in range(200):
        log.logger.info("answered", extra={"kind": "answered"})
        log.logger.error("failed", extra={"kind": "failed"})
        log.logger.warning("a library's")
    log.logger.error("a library's error")  # which as many warnings of its logger do not hide
    monkeypatch.undo()
    messages = [line["message"] for line in log.json()]
    expected = {"answered": 100, "failed": 10, "a library's": 10, "a library's error": 1}
    assert {message: messages.count(message) for message in expected} == expected


def test_a_reader_that_has_stopped_delays_nobody(log: Written) -> None:
    begun = time.monotonic()
    for number in range(3000):
        log.logger.info("%s", 1000 * "x", extra={"kind": f"kind {number}"})
    log.lines.close()  # the thread waits in os.write
    assert time.monotonic() - begun < 10
    data = b""
    while select.select([log.end], [], [], 5)[0] and (data := data + os.read(log.end, 65536)).count(b"left out") == 0:
        pass
    left_out = int(re.findall(r"([\d,]+) lines left out", data.decode())[0].replace(",", ""))
    assert left_out > 1000
    while select.select([log.end], [], [], 0.2)[0]:
        data += os.read(log.end, 65536)
    assert data.count(b'x"}\n') + left_out == 3000


@pytest.mark.parametrize("name", ["/dev/full", None])
def test_a_log_that_cannot_be_written_raises_nothing(name: str | None) -> None:
    descriptor = os.open(name or os.devnull, os.O_WRONLY)
    if name is None:
        os.close(descriptor)  # as a closed stderr
    logger, lines = logging.Logger("test"), Lines(descriptor)
    logger.addHandler(lines)
    logger.error("lost")
    lines.close()
    if name:
        os.close(descriptor)


def test_text_has_no_line_that_a_message_made_up(text: Written) -> None:
    try:
        raise RuntimeError("no\n2026-11-24 error forged\x1b[31m")
    except RuntimeError:
        text.logger.exception("a\nb", extra={"fields": {"status": 500}})
    lines = text.read()
    assert lines[0].endswith(" error ab status=500")
    assert all(line.startswith("    ") for line in lines[1:])
    assert "\x1b" not in "".join(lines)


def test_the_process_logs_at_its_level_and_then_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    for level in ("info", "warning"):
        with logging_for(Settings(log_level=level)):
            logging.getLogger("service.x").info("said at %s", level)
            logging.getLogger("some.library").info("too much")
            logging.getLogger("uvicorn.error").warning("odd request")
    logging.getLogger("service.x").error("after")
    messages = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert messages == ["said at info", "odd request", "odd request"]


def test_without_stderr_there_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(logging.getLogger().handlers)
    monkeypatch.setattr("sys.stderr", None)
    with logging_for(Settings()):
        assert logging.getLogger().handlers == before
