"""What the service aims at, and whether it was reached."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.benchmarks.service_alone import Alone, bound
from scripts.benchmarks.timing import table

if TYPE_CHECKING:
    from scripts.benchmarks.service import Begun, Loaded

__all__ = ["Target", "at_least", "at_most", "shown", "targets"]


@dataclass(frozen=True)
class Target:
    """A figure, and what it should be."""

    what: str
    value: float
    wanted: str
    met: bool


def at_least(what: str, value: float, least: float) -> Target:
    return Target(what, value, f">= {least:g}", value >= least)


def at_most(what: str, value: float, most: float) -> Target:
    return Target(what, value, f"<= {most:g}", value <= most)


def targets(loaded: Sequence["Loaded"], begun: Sequence["Begun"], parts: Sequence[Alone]) -> Iterator[Target]:
    """Compare what was measured with the aims; those that need a form or a number of clients that is absent are not."""
    found = {(row.form.split(",")[0], row.route, row.clients): row for row in loaded}
    most = max(row.clients for row in loaded)
    ours = found["fc7", "/classify", most]
    for peer, least in (("FastAPI handler", 3.0), ("LitServe", 1.0)):
        if (row := found.get((peer, "/classify", most))) is not None:
            yield at_least(f"/classify, {most} clients: times the answers of {row.form}", ours.per_s / row.per_s, least)
    share = ours.per_s / bound(parts[:2])
    yield at_least(f"/classify, {most} clients: share of 1 / (1 / forward + 1 / decode)", share, 0.9)
    for route, count in (("/classify", 2), ("/neighbours", 3)):
        if (row := found.get(("fc7", route, 1))) is not None:
            names, ms = " + ".join(part.part for part in parts[:count]), sum(part.one_ms for part in parts[:count])
            yield at_most(f"{route}, 1 client: p50 over {names} ({ms:.1f} ms)", row.p50_ms / ms, 1.1)
    yield at_most("s from start to the first answer", next(b.seconds for b in begun if b.form == "fc7"), 20)


def shown(found: Sequence[Target]) -> str:
    """A table with one line for each target."""
    rows = [[target.what, f"{target.value:,.2f}", target.wanted, "yes" if target.met else "no"] for target in found]
    return table(["target", "measured", "wanted", "met"], rows)
