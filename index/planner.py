"""Which layout a collection gets: from its size, the memory and the GPUs. The choice is a function of these alone.

What is measured on this machine, the bandwidth, only tells the time to expect: a build that is run again on a busy
machine makes the same files.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from index.costs import Bandwidth, bandwidth, milliseconds, needed, reads
from index.layout import COMPONENTS, Layout

__all__ = ["BadSize", "Choice", "TooLittleMemory", "Wanted", "bytes_of", "plan"]

Kind = Literal["flat", "panorama", "hnsw"]
Wanted = Literal["auto", "flat", "panorama", "coarse", "hnsw"]

SMALL = 5_000  # rows: fewer are scanned within a millisecond or two as they are
LARGE = 20_000  # rows: from here on a graph proposes sooner than a scan
LEADING = 128  # components that propose, at most
FREE = 0.9  # of a GPU's memory, for the rows
KINDS: dict[str, Kind] = {"panorama": "panorama", "coarse": "panorama", "hnsw": "hnsw"}
UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class BadSize(ValueError):
    """A size of memory that cannot be read."""


class TooLittleMemory(ValueError):
    """The layout that was asked for does not fit in the memory, or needs longer rows; the message says what does."""


@dataclass(frozen=True)
class Choice:
    """A layout and what it costs."""

    layout: Layout
    bytes: int  # that must stay in memory for the expected time
    expected_ms: float  # one query, certified
    measured_ms: float  # one query, proposals alone
    why: tuple[str, ...]  # lines to print


def bytes_of(text: str) -> int:
    """Return the bytes that a size such as 4GiB or 512MiB means. Raises BadSize."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(MiB|GiB|TiB)", text.strip())
    found = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if not found:
        raise BadSize(f"{text!r} is no size of memory: a positive number with MiB, GiB or TiB is accepted, as in 4GiB")
    return found


def plan(
    rows: int,
    width: int,
    memory: int,
    gpus: Sequence[int] = (),
    wanted: Wanted = "auto",
    speed: Bandwidth | None = None,
) -> Choice:
    """Choose the layout of `rows` rows of `width` numbers.

    memory: bytes that a search may keep in memory. gpus: bytes of each GPU that will search. wanted: panorama has
    COMPONENTS of them, coarse and hnsw may have fewer. speed: measured when it is not given. Raises TooLittleMemory
    for a layout that was named and does not fit.
    """
    why_flat = {"auto": _why_flat(rows, width, gpus), "flat": "as asked for"}.get(wanted, "")
    layouts = [] if why_flat else _layouts(rows, width, wanted)
    fitting = [layout for layout in layouts if needed(rows, width, layout) <= memory]
    if fitting:
        layout, reason = fitting[0], _why(fitting[0], layouts, rows, memory, wanted)
    elif wanted in ("auto", "flat"):
        layout, reason = Layout(), why_flat or f"no other layout fits in {_size(memory)}"
    else:
        raise TooLittleMemory(_too_little(rows, width, memory, wanted, layouts))
    speed = speed or bandwidth()
    certified, measured = milliseconds(rows, width, layout, speed)
    why = (
        f"index: {_named(layout)}: {reason}",
        f"  {_kept(rows, width, layout, memory)}",
        f"  expected for one query on the CPU: {certified:,.2f} ms certified, {measured:,.2f} ms measured, with memory "
        f"read at {speed.one / 1e9:,.0f} GB/s by one core and {speed.all / 1e9:,.0f} GB/s by all",
    )
    return Choice(layout, needed(rows, width, layout), certified, measured, why)


def _layouts(rows: int, width: int, wanted: Wanted) -> list[Layout]:
    """The layouts in question, best first: a graph, more components. For auto, those that read less than a flat scan.

    Fewer components may answer as soon for most queries, but leave more of the hard ones to a flat scan.
    """
    most = min(COMPONENTS, width // 2)
    eighths = range(8, 7 if wanted == "panorama" else 0, -1)
    sizes = [(m, min(LEADING, m // 2)) for m in dict.fromkeys(most * eighth // 8 for eighth in eighths) if m > 1]
    graphs: tuple[Kind, ...] = ("hnsw", "panorama") if rows >= LARGE else ("panorama",)
    kinds = (KINDS[wanted],) if wanted in KINDS else graphs
    layouts = [Layout(kind, *size, _candidates(rows)) for kind in kinds for size in sizes]
    most_read = 4 * rows * width if wanted == "auto" else float("inf")
    return [layout for layout in layouts if reads(rows, width, layout).certified < most_read]


def _candidates(rows: int) -> int:
    """How many rows a measured answer compares, for a recall@6 of 0.999: 72 among 50,000 CIFAR-10 images, 253 among 20
    times as many, which were made of them by crops and mirrors.
    """
    return min(512, round(72 * math.pow(max(1.0, rows / 50_000), 0.42)))


def _why_flat(rows: int, width: int, gpus: Sequence[int]) -> str:
    """Why auto is flat whatever the memory; empty where it is not."""
    if rows < SMALL:
        return f"{rows:,} rows are few (fewer than {SMALL:,})"
    if 4 * rows * width <= FREE * sum(gpus):
        return "all rows fit in the memory of the GPUs"
    if not _layouts(rows, width, "auto"):
        return f"rows of {width:,} numbers are read as soon as anything that is made from them"
    return ""


def _why(layout: Layout, layouts: Sequence[Layout], rows: int, memory: int, wanted: Wanted) -> str:
    if layout is not layouts[0]:
        return f"as many components as fit in {_size(memory)}; with more, more queries are proven soon"
    if wanted != "auto":
        return "as asked for"
    more = "graph proposes sooner than a scan" if layout.kind == "hnsw" else "scan of few numbers proposes soon"
    return f"among {rows:,} rows a {more}"


def _named(layout: Layout) -> str:
    if layout.kind == "flat":
        return "flat, every row compared"
    return f"{layout.kind}, {layout.leading} components propose and {layout.components} prove"


def _kept(rows: int, width: int, layout: Layout, memory: int) -> str:
    """What is in memory, and where the rows are."""
    cost = needed(rows, width, layout)
    if layout.kind == "flat":
        more = ", more than the" if cost > memory else " of the"
        disk = "; queries wait for the disk" if cost > memory else ""
        return f"{_size(cost)} with the rows{more} {_size(memory)} of memory{disk}"
    rest = f"{_size(4 * rows * width)} of rows, memory-mapped: few of them are read for a query"
    return f"{_size(cost)} of the {_size(memory)} of memory; beside them {rest}"


def _too_little(rows: int, width: int, memory: int, wanted: Wanted, layouts: Sequence[Layout]) -> str:
    if not layouts:
        return f"--index {wanted}: rows of {width} numbers are too short for it; --index flat takes them"
    least = min(needed(rows, width, layout) for layout in layouts)
    less = "--index coarse or flat" if wanted == "panorama" else "--index flat"
    return f"--index {wanted}: at least {_size(least)} of memory are needed, not {_size(memory)}; or {less}"


def _size(count: int) -> str:
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
