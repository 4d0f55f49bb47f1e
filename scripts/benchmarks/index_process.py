"""One form in its process: it is opened, searched once at a time and in batches, and its memory is read."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.index_forms import Form, Rows

__all__ = ["Run", "prepared", "run"]

WARM_UP = 3


@dataclass(frozen=True)
class Run:
    """What one process measured."""

    open_s: float
    single_s: NDArray[np.float64]  # (rounds,) of each single query
    batch_s: NDArray[np.float64]  # (batches,) of each full batch, the first left out
    rows: Rows  # (checked, k) found
    settled: tuple[str, ...]  # how each of them was settled; empty where nothing says it
    anonymous: int  # bytes of this process that are no file's, RssAnon in /proc/self/status
    mapped: int  # bytes of the folder's files that this process has in memory, Rss in /proc/self/smaps


def prepared(form: Form, folder: Path) -> float:
    """Write a form's files into the folder; seconds."""
    begun = time.perf_counter()
    if form.prepare is not None:
        form.prepare(folder)
    return time.perf_counter() - begun


def run(form: Form, folder: Path, k: int, batch: int, rounds: int) -> Run:
    """Open a form, and search for folder/queries.npy (q, d): for `rounds` of them one by one, for all in batches."""
    queries = np.load(folder / "queries.npy")
    begun = time.perf_counter()
    search = form.open(folder)
    opening = time.perf_counter() - begun
    single = []
    for turn in range(WARM_UP + rounds):
        query = queries[turn % len(queries)][None]
        begun = time.perf_counter()
        search(query, k)
        single.append(time.perf_counter() - begun)
    batches: list[float] = []
    found: list[Rows] = []
    settled: list[str] = []
    for start in range(0, len(queries), batch):
        asked = queries[start : start + batch]
        begun = time.perf_counter()
        rows, said = search(asked, k)
        taken = time.perf_counter() - begun
        if len(asked) == batch:
            batches.append(taken)
        found.append(rows)
        settled.extend(said)
    return Run(
        opening,
        np.array(single[WARM_UP:]),
        np.array(batches[1:] or batches),
        np.concatenate(found),
        tuple(settled),
        anonymous(Path("/proc/self/status").read_text()),
        mapped(Path("/proc/self/smaps").read_text(), {str(file.resolve()) for file in folder.rglob("*")}),
    )


def anonymous(status: str) -> int:
    """Bytes after RssAnon in the text of /proc/self/status."""
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def mapped(smaps: str, names: set[str]) -> int:
    """Bytes of the files with these names that are in memory, from the text of /proc/self/smaps."""
    total, ours = 0, False
    for line in smaps.splitlines():
        fields = line.split(None, 5)
        if not fields[0].endswith(":"):  # a mapping: addresses, rights, offset, device, inode, name
            ours = len(fields) == 6 and fields[5] in names
        elif ours and fields[0] == "Rss:":
            total += int(fields[1]) * 1024
    return total
