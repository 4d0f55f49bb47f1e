"""The figures of the report, drawn by matplotlib, as PNG files."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.reports.findings import Near

__all__ = ["ratio_chart", "six_and_six"]

LONGEST = 16  # characters of a label: as wide as an image

Labelled = tuple[NDArray[np.uint8], str]  # pixels (H, W, 3) and a label


def ratio_chart(found: Near, neighbours: int) -> bytes:
    """Show how the ratios are distributed, and where the limit is."""
    from matplotlib.figure import Figure  # the font search of its first import takes seconds

    figure = Figure(figsize=(7.5, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(found.first, bins=np.linspace(0, 1, 101).tolist(), color="#8aa4c8", log=True)
    axes.axvline(found.limit, color="#b03030")
    axes.set(xlabel=f"nearest distance / distance of neighbour {neighbours}", ylabel="images", xlim=(0, 1))
    axes.text(found.limit, 0.9, f" {found.limit:.3f}", color="#b03030", transform=axes.get_xaxis_transform())
    return _png(figure)


def six_and_six(rows: Sequence[tuple[Labelled, Sequence[Labelled], Sequence[Labelled]]]) -> bytes:
    """Draw a row for each query: the query, its nearest by pixels and its nearest by fc7. Green: it has its label."""
    from matplotlib.figure import Figure

    six = max(len(found) for row in rows for found in row[1:])
    figure = Figure(figsize=(1.0 * (2 * six + 2), 1.25 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), 2 * six + 3, squeeze=False, width_ratios=[1, 0.2, *[1] * six, 0.2, *[1] * six])
    for axes, (query, by_pixels, by_fc7) in zip(grid, rows, strict=True):
        for place in axes:
            place.set_axis_off()
        _draw(axes[0], query, "black")
        for first, found in ((2, by_pixels), (3 + six, by_fc7)):
            for place, one in zip(axes[first:], found, strict=False):
                _draw(place, one, "#2a7a2a" if one[1] == query[1] else "#b03030")
    grid[0][0].set_title("held out", fontsize=10, fontweight="bold")
    grid[0][2].set_title("nearest by pixels", fontsize=10, fontweight="bold", loc="left")
    grid[0][3 + six].set_title("nearest by fc7", fontsize=10, fontweight="bold", loc="left")
    return _png(figure)


def _draw(axes: Any, one: Labelled, colour: str) -> None:
    axes.imshow(one[0])
    said = one[1] if len(one[1]) <= LONGEST else f"{one[1][: LONGEST - 3]}..."
    place = {"ha": "center", "va": "top", "transform": axes.transAxes, "parse_math": False}  # a $ is a $
    axes.text(0.5, -0.04, said, fontsize=8, color=colour, **place).set_in_layout(False)  # else images make room for it


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
