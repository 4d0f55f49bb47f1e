"""Pixel distance beside fc7 distance: the six nearest by each, of the first held-out images (paper, section 6.1)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from index import Generation
from index.quality import Figure, agreement, labels_of
from model.data.sources import Report
from model.preprocess import stored_image
from scripts.reports.charts import six_and_six
from scripts.reports.findings import SIX
from scripts.reports.neighbourhoods import Neighbourhoods
from scripts.reports.page import Section
from scripts.reports.pixels import SIDE, nearest_by_pixels, pixels_of
from scripts.reports.sections import Line, Look, Shown

__all__ = ["pixel_section"]

SHOWN = 8  # held-out images in the figure: the first ones, so that nobody has picked them
COUNTED = 500  # held-out images whose neighbours' labels are counted, at most
DRAWN = 160  # pixels: a thumbnail's side


def pixel_section(
    generation: Generation, near: Neighbourhoods, query: Look, index: Look, report: Report
) -> tuple[Section, Iterator[Line]]:
    """Compare the two distances for the first held-out images. The index has six images at least."""
    looked = [query(int(image)) for image in near.images[:COUNTED]]
    distances, ids = nearest_by_pixels(generation, np.stack([pixels_of(one.thumbnail) for one in looked]), SIX, report)
    by_fc7, labels = near.ids[: len(looked), :SIX], near.labels[: len(looked)]
    shares = (agreement(labels_of(generation, ids), labels), agreement(near.label_of[: len(looked), :SIX], labels))
    words = [
        f"Of the six nearest of the first {len(looked):,} held-out images, {_share(shares[0])} by pixels and "
        f"{_share(shares[1])} by fc7 have the image's label. {_same(ids, by_fc7)}",
        "The paper notes that the images which fc7 retrieves are generally not close in L2 of pixels (section 6.1). "
        f"Below, the first {min(SHOWN, len(looked))} held-out images, the six nearest of {len(generation.ids):,} by "
        f"the Euclidean distance of {SIDE} x {SIDE} pixels, and the six nearest by fc7; green labels are the image's.",
    ]
    rows = [
        (_drawn(one), [_drawn(index(int(i))) for i in ids[row]], [_drawn(index(int(i))) for i in by_fc7[row]])
        for row, one in enumerate(looked[:SHOWN])
    ]

    def lines() -> Iterator[Line]:
        for row, one in enumerate(looked[:SHOWN]):
            ways = (("pixels", ids[row], distances[row]), ("fc7", by_fc7[row], near.distances[row]))
            for way, found, far in ways:
                for other, distance in zip(found, far, strict=False):
                    its = index(int(other))
                    yield f"nearest by {way}", "", one.name, one.label, its.name, its.label, float(distance), ""

    return Section("Pixels and fc7", words, six_and_six(rows)), lines()


def _share(figure: Figure | None) -> str:
    if figure is None:
        return "an unknown share (there are no labels)"
    return f"{figure['value']:.1%} (95 %: {figure['low']:.1%} to {figure['high']:.1%})"


def _same(one: NDArray[np.int64], other: NDArray[np.int64]) -> str:
    """one, other (q, k): ids."""
    both = (one[:, :, None] == other[:, None, :]).any(axis=2).mean()
    return f"{both:.1%} of the nearest by pixels are among the nearest by fc7."


def _drawn(one: Shown) -> tuple[NDArray[np.uint8], str]:
    return stored_image(one.thumbnail, DRAWN), one.label
