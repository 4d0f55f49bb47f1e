"""Soak the service: minutes at its capacity, with faults and hostile clients, every good answer compared."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.command import Refused, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Load a real service on a small bundle, among bad, slow and aborted clients; kill its decoders, and swap its
    generation three times. Every good answer is compared with the one that is known beforehand."""

    minutes: float = 10.0  # of load
    seed: int = 0  # of what the clients choose


def job(config: Config) -> None:
    """Soak, and print the table. Raises Refused where anything is not as it should be."""
    from scripts.benchmarks.timing import conditions
    from scripts.load.connection import post
    from scripts.load.server import free_port, started
    from scripts.soaking.known import prepared
    from scripts.soaking.run import soaked

    if config.minutes <= 0:
        raise Refused(f"--minutes {config.minutes:g}: more than 0 is accepted")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        known, port = prepared(Path(folder)), free_port()
        command = [sys.executable, "scripts/serve.py", "--bundle", str(known.bundle), "--port", str(port)]
        with started(command, port, post("/classify", known.photographs[0])) as server:
            counts, before, after = soaked(server, known, 60 * config.minutes, config.seed)
            ended = server.process.poll()
    print(f"{conditions('cpu')}; {config.minutes:g} minutes\n{counts.shown(before, after)}")
    if failures := [
        *([f"the service ended with {ended}"] if ended is not None else []),
        *counts.failures(3, before, after),
    ]:
        raise Refused("; ".join(failures))


if __name__ == "__main__":
    run(Config, job)
