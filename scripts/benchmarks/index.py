"""The index beside what others would run, on the same rows and queries: time, recall, exactness and memory.

The processes run one after the other: idle threads of one library would slow the next, memory is a process's own, and a
million rows fit once.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import exact
from index.costs import Bandwidth, bandwidth, milliseconds
from index.layout import Layout
from index.planner import bytes_of, plan
from index.quality import Figure, share
from scripts.benchmarks import ground_truth
from scripts.benchmarks.index_forms import Form, peers
from scripts.benchmarks.index_inputs import inputs, lay_out
from scripts.benchmarks.index_ours import ours
from scripts.benchmarks.index_process import Run, prepared, run
from scripts.benchmarks.settings import Index, check_positive
from scripts.benchmarks.timing import own_process, table
from scripts.command import Refused


@dataclass(frozen=True)
class Compared:
    """One form's figures over so many rows."""

    rows: int  # n
    form: str
    median_ms: float  # one query
    low_ms: float  # 5 % of the queries are answered sooner
    high_ms: float  # 5 % later
    expected_ms: float | None  # by the planner's reckoning
    batch: int
    queries_per_s: float  # in the median batch
    recall: Figure
    equal: int  # of the checked queries, those whose neighbours are brute force's, in its order
    checked: int
    settled: str  # how many of them were settled how
    build_s: float
    open_s: float
    anonymous_mb: float  # of its process, libraries' too
    mapped_mb: float  # of its files, in the page cache


def measure(config: Index) -> list[Compared]:
    """Run every form over every number of rows. Raises BadBundle, BadDataset, BadCheckpoint, BadSize, Refused."""
    check_positive(config, "k", "batch", "checked", "rounds")
    memory, compared = bytes_of(config.memory), []
    if not config.scratch.is_dir():
        raise Refused(f"--scratch {config.scratch}: not a folder")
    features, queries = inputs(config)
    speed = bandwidth()
    for rows in config.rows or (len(features),):
        if not config.k <= rows <= len(features):
            raise Refused(f"--rows {rows}: {config.k} to {len(features)} are accepted, the neighbours and the features")
        with tempfile.TemporaryDirectory(dir=config.scratch, prefix="benchmark-") as folder:
            lay_out(Path(folder), features[:rows], queries)
            compared += list(_compared(config, Path(folder), features[:rows], queries, memory, speed))
    return compared


def shown(config: Index, compared: Sequence[Compared]) -> str:
    """A table with one line for each form and number of rows."""
    rows = [
        [
            f"{c.rows:,}",
            c.form,
            f"{c.median_ms:,.2f} ({c.low_ms:,.2f}-{c.high_ms:,.2f})",
            f"{c.expected_ms:,.2f}" if c.expected_ms is not None else "-",
            f"{c.queries_per_s:,.0f}",
            f"{c.recall['value']:.4f} ({c.recall['low']:.4f}-{c.recall['high']:.4f})",
            f"{c.equal:,} of {c.checked:,}",
            c.settled or "-",
            f"{c.build_s:,.1f}",
            f"{c.open_s:,.2f}",
            f"{c.anonymous_mb:,.0f}",
            f"{c.mapped_mb:,.0f}",
        ]
        for c in compared
    ]
    head = ["rows", "index", "ms a query (5-95 %)", "expected ms", f"queries/s in batches of {config.batch}"]
    head += [f"recall@{config.k} (95 %)", "as brute force", "settled", "build s", "open s", "anonymous MB", "mapped MB"]
    note = (
        "anonymous: RssAnon of the process, libraries and all; mapped: its files' pages in memory, Rss in smaps, which "
        "the page cache can give back"
    )
    return f"{table(head, rows)}\n\n{note}"


def _compared(
    config: Index,
    folder: Path,
    features: NDArray[np.float32],
    queries: NDArray[np.float32],
    memory: int,
    speed: Bandwidth,
) -> Iterator[Compared]:
    """Every form's figures; lines on stderr say what is left out."""
    rows, width = features.shape
    choice = plan(rows, width, memory, speed=speed)
    print("\n".join(choice.why), file=sys.stderr)
    truth = ground_truth.nearest(features, queries[: config.checked], config.k)
    flat = milliseconds(rows, width, Layout(), speed)[0]
    build_s: dict[object, float] = {}
    for form in [*peers(rows, width), *ours(rows, width, choice.layout, memory, speed)]:
        if why := _absent(form, memory):
            print(f"left out at {rows:,} rows: {form.name}, {why}", file=sys.stderr)
            continue
        print(f"{rows:,} rows: {form.name}", file=sys.stderr)
        try:
            if form.prepare not in build_s:
                with own_process() as process:
                    build_s[form.prepare] = process.submit(prepared, form, folder).result()
            with own_process() as process:
                measured = process.submit(run, form, folder, config.k, config.batch, config.rounds).result()
        except BrokenExecutor:  # the rows before took hours
            print(f"left out at {rows:,} rows: {form.name}, whose process was killed (memory?)", file=sys.stderr)
            continue
        expected = form.expected_ms if form.expected_ms is not None else flat if form.scans else None
        yield _figures(form, measured, truth, features, queries, build_s[form.prepare], expected, config.batch)


def _figures(
    form: Form,
    measured: Run,
    truth: tuple[NDArray[np.float64], NDArray[np.int64]],
    features: NDArray[np.float32],
    queries: NDArray[np.float32],
    build_s: float,
    expected_ms: float | None,
    batch: int,
) -> Compared:
    distances, expected = truth
    count, k = expected.shape
    hits = [
        (exact.distances(features[found], query) <= farthest).mean()  # a tie with the farthest is as right
        for found, query, farthest in zip(measured.rows[:count], queries, distances[:, -1], strict=False)
    ]
    low, median, high = np.percentile(measured.single_s * 1e3, [5, 50, 95])
    return Compared(
        rows=len(features),
        form=form.name,
        median_ms=float(median),
        low_ms=float(low),
        high_ms=float(high),
        expected_ms=expected_ms,
        batch=batch,
        queries_per_s=batch / float(np.median(measured.batch_s)),
        recall=share(np.array(hits), k),
        equal=int((measured.rows[:count] == expected).all(axis=1).sum()),
        checked=count,
        settled=", ".join(
            f"{measured.settled.count(how) / len(measured.settled):.1%} {how}" for how in sorted(set(measured.settled))
        ),
        build_s=build_s,
        open_s=measured.open_s,
        anonymous_mb=measured.anonymous / 1e6,
        mapped_mb=measured.mapped / 1e6,
    )


def _absent(form: Form, memory: int) -> str:
    """Why a form is not run; empty where it is."""
    if form.package and not find_spec(form.package):
        return f"which needs {form.package}: pip install -e .[peers]"
    if form.anonymous > memory:
        return f"which takes {form.anonymous / 1e9:,.1f} GB of memory, more than --memory allows"
    return ""
