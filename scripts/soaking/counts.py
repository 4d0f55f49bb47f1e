"""What happened in a soak test, counted, and whether that is what should."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from scripts.benchmarks.timing import table

__all__ = ["Counts", "Held"]

SLACK = 64_000_000  # bytes that memory may grow
FILES = 16  # open files and sockets that may be more


@dataclass(frozen=True)
class Held:
    """What the service's processes hold at one time."""

    memory: int  # bytes
    files: int  # open files and sockets
    decoders: int  # processes


@dataclass
class Counts:
    """Counted by the clients; one event loop writes it."""

    statuses: Counter[str] = field(default_factory=Counter)  # "good 200", "bad 400", ... ; "lost" where none came
    wrong: list[str] = field(default_factory=list)  # what was wrong with a good client's 200
    seconds: list[float] = field(default_factory=list)  # that a good client's 200 took
    generations: Counter[int] = field(default_factory=Counter)  # that good answers were from
    misbehaved: Counter[str] = field(default_factory=Counter)  # slow and aborted connections, by kind
    killed: int = 0  # decoders
    replaced: int = 0  # of those, replaced in time
    swaps: list[float] = field(default_factory=list)  # seconds until a change was in use

    def failures(self, swaps: int, before: Held, after: Held) -> list[str]:
        """Return what should not be, in a line each. swaps: how many there should be."""
        of_good = {status: n for status, n in self.statuses.items() if status.startswith("good ")}
        refused = of_good.get("good 400", 0)
        broken = {s: n for s, n in self.statuses.items() if s.split()[1] >= "500" and not s.endswith("503")}  # or lost
        accepted = {s: n for s, n in self.statuses.items() if s.startswith(("bad 2", "bad 3"))}
        strange = {s: n for s, n in of_good.items() if s not in ("good 200", "good 400", "good 503")}
        checks = {
            f"{len(self.wrong)} wrong answers; the first: {(self.wrong or [''])[0]}": not self.wrong,
            f"answers of 500 and more but 503, or none: {broken}": not broken,
            f"good images were answered by {strange}": not strange,
            f"broken requests were answered by {accepted}": not accepted,
            f"{refused} good images were refused, more than the {self.killed} decoders killed": refused <= self.killed,
            f"{self.killed - self.replaced} of {self.killed} killed decoders were not replaced": self.killed
            == self.replaced,
            f"{len(self.swaps)} of {swaps} swaps": len(self.swaps) == swaps,
            "no good answer": bool(self.seconds),
            f"no decoder was killed of {before.decoders}": self.killed > 0,
            f"memory grew by {(after.memory - before.memory) / 1e6:.0f} MB": after.memory <= before.memory + SLACK,
            f"open files grew by {after.files - before.files}": after.files <= before.files + FILES,
        }
        return [failure for failure, fine in checks.items() if not fine]

    def shown(self, before: Held, after: Held) -> str:
        """A table of the figures."""
        good = {name.split()[1]: n for name, n in self.statuses.items() if name.startswith("good ")}
        bad = {name.split()[1]: n for name, n in sorted(self.statuses.items()) if name.startswith("bad ")}
        others = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.misbehaved.items()))
        p50, p99 = np.percentile(self.seconds or [float("nan")], [50, 99]) * 1e3
        server_errors = {name: n for name, n in self.statuses.items() if name.split()[1] in ("500", "502", "504")}
        rows = [
            ["requests with an answer that is known", f"{sum(good.values()):,}"],
            ["right answers", f"{good.get('200', 0) - len(self.wrong):,}"],
            ["wrong answers", f"{len(self.wrong):,}"],
            ["lost answers", f"{good.get('lost', 0):,}"],
            ["refused with 503", f"{good.get('503', 0):,}"],
            ["answered 400, their decoder killed", f"{good.get('400', 0):,}"],
            ["answers by generation", ", ".join(f"{g}: {n:,}" for g, n in sorted(self.generations.items()))],
            ["broken requests, by status", ", ".join(f"{status}: {n:,}" for status, n in bad.items())],
            ["500, 502, 504", f"{sum(server_errors.values()):,}"],
            ["other connections", others],
            ["decoders killed, replaced", f"{self.killed:,}, {self.replaced:,}"],
            ["swaps, seconds until each was in use", ", ".join(f"{taken:.1f}" for taken in self.swaps)],
            ["p50, p99 of right answers, ms", f"{p50:,.1f}, {p99:,.1f}"],
            ["memory at start and end, MB", f"{before.memory / 1e6:,.0f}, {after.memory / 1e6:,.0f}"],
            ["open files at start and end", f"{before.files:,}, {after.files:,}"],
        ]
        return table(["what", "count"], rows)
