"""What one GPU does: the gpu-marked tests, then the training step, the loader and the search.

Each part is a process of its own with a time limit, so that all of it ends in under ten minutes even if a part hangs.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import files
from scripts.benchmarks.timing import conditions, table
from scripts.command import Refused

OLDEST_TORCH = (2, 11)
NO_SEARCH = "skipped: FAISS is missing here, or was built without GPUs"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Run the gpu-marked tests and the benchmarks on one GPU, in under ten minutes."""

    out: Path = Path("gpu.json")  # where all figures go, with their conditions


@dataclass(frozen=True)
class Part:
    """A command to run."""

    name: str
    command: tuple[str, ...]  # after the interpreter's name
    limit: float  # seconds


@dataclass(frozen=True)
class Outcome:
    """What became of a part."""

    part: str
    seconds: float
    problem: str  # empty: it did all that was asked
    rows: Sequence[Mapping[str, Any]] = field(default=())  # its figures


def job(config: Gpu) -> None:
    """Run every part, print the table and write the file. Raises Refused without a GPU, and when a part failed."""
    check(torch.__version__, torch.cuda.is_available())
    if config.out.is_dir() or not os.access(config.out.parent, os.W_OK):  # not after ten minutes of measuring
        raise Refused(f"--out {config.out}: a file cannot be written there")
    with_search = gpu_faiss()
    outcomes = []
    for part in parts(with_search):
        print(f"{part.name}: at most {part.limit:.0f} s ...", file=sys.stderr, flush=True)
        outcomes.append(carry_out(part))
    if not with_search:
        outcomes.append(Outcome("search", 0.0, NO_SEARCH))
    print(f"{conditions()}\n{shown(outcomes)}")
    told = {"conditions": conditions(), "parts": [asdict(outcome) for outcome in outcomes]}
    with files.translated(config.out, Refused, Refused):
        files.replace(config.out, (json.dumps(told, indent=1) + "\n").encode())
    print(f"written: {config.out}")
    if failed := [outcome.part for outcome in outcomes if outcome.problem not in ("", NO_SEARCH)]:
        raise Refused(f"{', '.join(failed)}: not as it should be; the table says why")


def check(version: str, cuda: bool) -> None:
    """Raise Refused for a torch that is too old, or that sees no GPU."""
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_TORCH:
        raise Refused(f"torch {version} is here; 2.11 or newer is needed")
    if not cuda:
        raise Refused(f"torch {version} sees no CUDA GPU here; make gpu measures one")


def gpu_faiss() -> bool:
    """Can FAISS search on a GPU here?"""
    try:
        from index import gpus_of
    except ImportError:
        return False
    return bool(gpus_of("cuda:0"))


def parts(search: bool) -> list[Part]:
    """What is run, in order; without `search`, nothing that needs GPU FAISS."""
    benchmark = "scripts/benchmark.py"
    tests = [name for name in gpu_tests() if search or not name.startswith("tests/index/")]
    found = [
        Part("tests", ("-m", "pytest", "-q", "-m", "gpu", *tests), 200),
        Part("train", (benchmark, "train", "--preset", "paper", "--batch", "128", "--rounds", "20", "--json"), 180),
        Part("loader", (benchmark, "loader", "--noise", "2048", "--count", "8192", "--json"), 90),
    ]
    return [*found, Part("search", (benchmark, "search", "--json"), 90)] if search else found


def gpu_tests() -> list[str]:
    """The test files that hold a test marked `gpu`: others may need packages that the machine of a GPU lacks."""
    found = (file for file in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in file.read_text())
    return sorted(str(file.relative_to(ROOT)) for file in found)


def carry_out(part: Part) -> Outcome:
    """Run a part, and kill it and all that it started when its time is over."""
    begun = time.monotonic()
    try:
        with subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=part.limit)
            except BaseException:  # Ctrl-C too
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired:
        return Outcome(part.name, time.monotonic() - begun, f"not done in {part.limit:.0f} s")
    rows = read_tests(said) if part.name == "tests" else read_benchmark(said)
    problem = f"exit code {process.returncode}" if process.returncode or not rows else ""
    if problem:
        print(said, file=sys.stderr)
    return Outcome(part.name, time.monotonic() - begun, problem, rows)


def read_tests(said: str) -> list[dict[str, Any]]:
    """pytest's last line ("3 passed, 1 skipped in 2.11s") as figures."""
    last = said.rstrip().rpartition("\n")[2]
    return [
        {"outcome": outcome, "tests": int(count)}
        for count, outcome in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)
    ]


def read_benchmark(said: str) -> list[dict[str, Any]]:
    """The rows of scripts/benchmark.py --json; none where it printed something else."""
    try:
        rows: list[dict[str, Any]] = json.loads(said)["rows"]
    except (ValueError, KeyError, TypeError):
        return []
    return rows


def shown(outcomes: Sequence[Outcome]) -> str:
    """A table of all parts with one line for each figure."""
    lines = []
    for outcome in outcomes:
        lines += [[outcome.part, *_cells(outcome.part, row)] for row in outcome.rows]
        lines += [[outcome.part, outcome.problem, "-", "-"]] if outcome.problem else []
    return table(["part", "what", "figure", "ms"], lines)


def _cells(part: str, row: Mapping[str, Any]) -> tuple[str, str, str]:
    if part == "tests":
        return row["outcome"], str(row["tests"]), "-"
    milliseconds = f"{row['fastest_ms']:.1f}-{row['slowest_ms']:.1f}"
    if part == "search":
        what = f"{row['index']}, {row['batch']} at once, {row['equal']} of {row['checked']} as brute force"
        return what, f"{row['queries_per_s']:,.0f} queries/s", milliseconds
    what = f"{row['form']}, {row['batch']} images" if part == "train" else str(row["loader"])
    return what, f"{row['images_per_s']:,.0f} img/s", milliseconds
