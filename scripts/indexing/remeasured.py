"""What a bundle's manifest says of its answers, beside what its queries give now."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from index import Bundle
from index.quality import changed, measure_again
from scripts.command import Refused

__all__ = ["remeasured", "table"]


def remeasured(path: Path, *, as_json: bool) -> str:
    """Measure the current generation again. Return a table or JSON. Raises BadBundle, Refused."""
    with closing(Bundle(path).current()) as generation:
        recorded, again = dict(generation.manifest.quality), measure_again(generation)
    if not again or not recorded:
        raise Refused(f"{path}: holds no queries to measure with; build_index.py --held-out keeps some")
    try:
        if as_json:
            return json.dumps({"recorded": recorded, "again": again, "outside": changed(recorded, again)}, indent=1)
        return table(recorded, again)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"{path}: its manifest's quality is not what build_index.py writes ({error!r})") from error


def table(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> str:
    """Both, a line for each figure, and whether they agree."""
    outside, k = changed(recorded, again), recorded["k"]
    names = {
        f"recall@{k}, certified ({recorded['checked']} by brute force)": ("certified", "recall"),
        f"recall@{k}, measured": ("measured", "recall"),
        f"label agreement of the {k}": ("agreement",),
        "one query, certified": ("certified", "ms"),
        "one query, measured": ("measured", "ms"),
    }
    rows = [(name, _said(_at(recorded, keys)), _said(_at(again, keys))) for name, keys in names.items()]
    rows += [
        (f"bytes of {name}", f"{size:,}", f"{again['bytes'].get(name, 0):,}")
        for name, size in recorded["bytes"].items()
    ]
    rows = [(f"{recorded['queries']:,} queries", "in the manifest", "measured again"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if outside:
        return "\n".join([*lines, f"outside the manifest's interval: {', '.join(outside)}"])
    return "\n".join([*lines, "every share is within the manifest's interval"])


def _at(quality: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    found: Any = quality
    for key in keys:
        found = found[key]
    return found


def _said(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "no labels"
    if "low" in figure:
        return f"{figure['value']:.2%} ({figure['low']:.2%}-{figure['high']:.2%})"
    return f"{figure['median']:.2f} ms ({figure['fastest']:.2f}-{figure['slowest']:.2f})"
