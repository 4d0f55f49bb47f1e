"""The log of the process, on stderr: one line for each request and each event, as JSON or as text.

A line holds nothing that a caller chose but a request id of safe characters. A thread of its own writes it, so a full
disk, a closed stderr or a reader that has stopped costs lines, and no answer. And callers cannot fill a disk: lines are
short, and of those that repeat a few a second are written and the others counted.
"""

import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from service.settings import Settings
from service.stages import request_id

__all__ = ["LONGEST", "AsJson", "AsText", "Lines", "logging_for"]

LONGEST = 4096  # bytes of a line: a pipe takes that many whole, so lines of two processes do not mix
WAITING = 1000  # lines not yet written, at most
ANSWERS = 100  # lines a second about answers of one kind
OTHERS = 10  # lines a second of any other kind: status 500 and more, warnings, errors
TOGETHER = 0.02  # seconds in which lines are collected: waking the thread for each would cost every request its time
FRAMES = 8  # of a trace, the innermost
NAMED = 20  # kinds in a line about what was left out
OURS = ("service", "model", "index")  # loggers whose level is set; others say warnings and errors


class Lines(logging.Handler):
    """Writes lines to a file descriptor. A record's `kind`, else its logger and level, says which lines are alike."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._queue: queue.Queue[str | None] = queue.Queue(WAITING)
        self._second, self._seen, self._left_out = 0, Counter[str](), Counter[str]()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)  # it may wait for a reader for ever
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Let the thread write a line, unless this second had enough of its kind or the thread is far behind."""
        kind = getattr(record, "kind", None) or f"{record.name} {record.levelname.lower()}"
        most = ANSWERS if hasattr(record, "kind") and record.levelno == logging.INFO else OTHERS
        second = int(time.monotonic())
        if self._second != second:
            self._second, self._seen = second, Counter()
        self._seen[kind] += 1
        if self._seen[kind] > most or not self._put(self._formatted(record)):
            self._left_out[kind] += 1

    def close(self) -> None:
        """Write what waits, for a second at most."""
        self._put(None)
        self._thread.join(1)
        super().close()

    def _formatted(self, record: logging.LogRecord) -> str:
        """Return the line; also of a call with wrong arguments, which must not fail the request that made it."""
        try:
            return self.format(record)
        except Exception as error:
            text = f"a line of {record.name} cannot be made: {error!r}"
            return self.format(logging.LogRecord(__name__, logging.ERROR, "", 0, text, None, None))

    def _put(self, line: str | None) -> bool:
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        due, going_on = time.monotonic() + 1, True
        while going_on:
            for line in self._next():
                if line is None:
                    going_on = False
                else:
                    self._write(line)
            if not going_on or time.monotonic() > due:
                self._tell()
                due = time.monotonic() + 1

    def _next(self) -> Iterator[str | None]:
        """Give the lines that wait, after at most a second; None is the end."""
        try:
            yield self._queue.get(timeout=1)
            time.sleep(TOGETHER)
            while True:
                yield self._queue.get_nowait()
        except queue.Empty:
            return

    def _tell(self) -> None:
        """Say in one line what was left out, if anything was."""
        self.acquire()
        left_out, self._left_out = self._left_out, Counter()
        self.release()
        if left_out:
            text = f"{left_out.total():,} lines left out"
            record = logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)
            record.fields = {"left_out": dict(left_out.most_common(NAMED))}
            self._write(self.format(record))

    def _write(self, line: str) -> None:
        with suppress(OSError):  # there is no better place to report it
            os.write(self._descriptor, line.encode() + b"\n")


class AsJson(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return _fitting(_fields(record), json.dumps)


class AsText(logging.Formatter):
    """A record as text; the lines of a trace are indented."""

    def format(self, record: logging.LogRecord) -> str:
        return _fitting(_fields(record), _text)


@contextmanager
def logging_for(settings: Settings) -> Iterator[None]:
    """Log on stderr while the block runs, if there is a stderr."""
    if sys.stderr is None:  # closed before the start: its descriptor may be another file by now
        yield
        return
    lines, root = Lines(sys.stderr.fileno()), logging.getLogger()
    lines.setFormatter(AsJson() if settings.log == "json" else AsText())
    root.addHandler(lines)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(lines)
        lines.close()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    now = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, Any] = {
        "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if found := request_id():
        fields["request_id"] = found
    fields |= getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1]:
        fields["trace"] = "".join(traceback.format_exception(record.exc_info[1], limit=-FRAMES))
    return fields


def _fitting(fields: dict[str, Any], form: Callable[[dict[str, Any]], str]) -> str:
    """Return the line. Where it would be too long, a trace loses its start, then a message its end."""
    line = form(fields)
    for name in ("trace", "message"):
        text, kept = fields.get(name, ""), LONGEST
        while kept and len(line.encode()) >= LONGEST:
            kept //= 2  # a character may take several bytes
            fields[name] = "..." + text[-kept:] if name == "trace" else text[:kept] + "..."
            line = form(fields)
    return line


def _text(fields: dict[str, Any]) -> str:
    time, level, _, message, *others = fields.items()
    parts = [time[1], level[1], message[1], *(f"{name}={value}" for name, value in others if name != "trace")]
    lines = [" ".join(parts), *(f"    {line}" for line in fields.get("trace", "").splitlines())]
    return "\n".join("".join(c for c in line if c.isprintable()) for line in lines)
