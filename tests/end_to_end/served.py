"""scripts/serve.py as a real process on a port of its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import environment

ROOT = Path(__file__).parents[2]
ANNOUNCED = "fc7 is at "


@dataclass(frozen=True)
class Served:
    """A service that is ready, and its address."""

    process: "subprocess.Popen[str]"
    address: str  # http://127.0.0.1:12345

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def memory(self, field: str) -> int:
        """Bytes: VmRSS now, VmHWM at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def start(*flags: str, python: str = sys.executable, **variables: str) -> "subprocess.Popen[str]":
    """Start the script with these flags and variables; its output is piped."""
    return subprocess.Popen(
        [python, "scripts/serve.py", *flags],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def served(*flags: str, python: str = sys.executable, **variables: str) -> Iterator[Served]:
    """Start the script, wait for its address, and stop it in the end."""
    process = start("--port", "0", "--device", "cpu", *flags, python=python, **variables)
    assert process.stdout is not None
    try:
        too_late = threading.Timer(60, process.kill)
        too_late.start()
        line = process.stdout.readline()
        too_late.cancel()
        assert line.startswith(ANNOUNCED), process.communicate(timeout=60)[1]
        yield Served(process, line.removeprefix(ANNOUNCED).strip())
    finally:
        process.terminate()
        process.communicate(timeout=60)
