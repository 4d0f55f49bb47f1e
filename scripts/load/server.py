"""Servers as processes of their own: started, waited for, weighed, ended."""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.command import Refused
from scripts.load.connection import Answer, Lost, once

__all__ = ["Server", "environment", "free_port", "started"]

ROOT = Path(__file__).parents[2]
START = 120.0  # seconds that a server may take until it answers
END = 15.0  # seconds that it may take to end


@dataclass(frozen=True)
class Server:
    """A server that has answered, on 127.0.0.1."""

    process: "subprocess.Popen[bytes]"
    port: int
    start_s: float  # from its start to its first good answer

    def processes(self) -> list[int]:
        """Its own id, then its children's and theirs."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found += map(int, children.read_text().split())
                except OSError:  # it has just ended
                    continue
        return found

    def memory(self) -> int:
        """Bytes that its processes hold; what several share is divided among them (Pss)."""
        return 1024 * sum(map(_pss_kb, self.processes()))

    def open_files(self) -> int:
        """Open files and sockets of all its processes."""
        return sum(_count(Path(f"/proc/{pid}/fd")) for pid in self.processes())


@contextmanager
def started(command: Sequence[str | Path], port: int, first: bytes) -> Iterator[Server]:
    """Start `command`, which listens on `port`, wait until it answers the request `first` with 200, and end it.

    Raises Refused with the end of what it said where it ends first, or answers nothing else.
    """
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=said, stderr=said, start_new_session=True
        )
        try:
            if (problem := asyncio.run(_ready(process, port, first))) is not None:
                said.seek(0)
                raise Refused(
                    f"{command[1]} does not answer: {problem}: {said.read()[-2000:].decode(errors='replace')}"
                )
            yield Server(process, port, time.perf_counter() - begun)
        finally:
            _end(process)


def environment() -> dict[str, str]:
    """Return this process's environment without the user's FC7_* settings, which are not what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FC7_")}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _ready(process: "subprocess.Popen[bytes]", port: int, first: bytes) -> str | None:
    """Ask until there is a good answer. Return why there is none."""
    deadline, answer = time.monotonic() + START, Answer(0, {}, b"")
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            return f"it ended with {code}"
        try:
            answer = await once(port, first)
        except Lost:
            await asyncio.sleep(0.02)
            continue
        if answer.status == 200:
            return None
        await asyncio.sleep(0.02)
    return f"for {START:g} s; its last answer was {answer.status}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and what it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it has left behind
    process.wait()


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _count(folder: Path) -> int:
    try:
        return len(list(folder.iterdir()))
    except OSError:
        return 0
