"""Each report as a section of the page, and as lines of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from index import Generation
from index.duplicates import FALSE
from model import Source
from scripts.command import Refused
from scripts.reports.charts import ratio_chart
from scripts.reports.findings import SIX, Disagreeing, Near, duplicate_groups
from scripts.reports.neighbourhoods import Neighbourhoods
from scripts.reports.page import Section, Tile

__all__ = ["HEAD", "Line", "Look", "Shown", "group_section", "held_out", "indexed", "near_section", "odd_section"]

ROWS = 60  # of a report on the page; the table has all
TILES = 7  # in a row
HEAD = ("report", "group", "image", "label", "neighbour", "neighbour_label", "distance", "ratio")
NO_LABEL = "no label"

Line = tuple[str | int | float, ...]  # of the table; its columns are HEAD


@dataclass(frozen=True)
class Shown:
    """What is shown of an image."""

    name: str
    label: str
    thumbnail: bytes

    def tile(self, words: str = "", *, first: bool = False) -> Tile:
        """The image on the page."""
        return Tile(self.thumbnail, self.label, f"{self.name} {words}".strip(), first)


Look = Callable[[int], Shown]  # by image id, or by position in a source


def indexed(generation: Generation) -> Look:
    """Look at indexed images."""

    def look(image_id: int) -> Shown:
        image = generation.catalogue.image(image_id)
        return Shown(image.name, image.label or NO_LABEL, image.thumbnail)

    return look


def held_out(source: Source, classes: Sequence[str]) -> Look:
    """Look at images of a source that can be read; `classes` are its classes as the index names them."""

    def look(position: int) -> Shown:
        (item,) = source.read(position, position + 1, ())
        if item.thumbnail is None:
            raise Refused(f"{item.name}: {item.skipped}; it could be read when the report began")
        return Shown(item.name, classes[item.label] if item.label >= 0 else NO_LABEL, item.thumbnail)

    return look


def near_section(found: Near, near: Neighbourhoods, query: Look, index: Look) -> tuple[Section, Iterator[Line]]:
    """Held-out images that have near-duplicates among the indexed ones."""
    of_image: dict[int, list[tuple[int, float, float]]] = {}
    for image, other, distance, ratio in found.pairs:
        of_image.setdefault(image, []).append((other, distance, ratio))
    total, k = near.ids.shape
    words = [
        f"{len(of_image):,} of {total:,} held-out images ({len(of_image) / max(total, 1):.1%}) have a near-duplicate "
        "in the collection: accuracy on them says little about images that are new.",
        _explained(found, k),
        _counted(len(of_image), "images", "those with the smallest ratio first"),
    ]
    rows = [
        [query(image).tile(first=True), *(index(o).tile(f"ratio {ratio:.2f}") for o, _, ratio in others[: TILES - 1])]
        for image, others in list(of_image.items())[:ROWS]
    ]
    section = Section("Near-duplicates of held-out images", words, ratio_chart(found, k), rows)
    return section, _pairs("held-out", found, query, index)


def group_section(found: Near, near: Neighbourhoods, index: Look, equal: int) -> tuple[Section, Iterator[Line]]:
    """Groups of near-duplicates within the collection. equal: images that have several names, being equal files."""
    groups = duplicate_groups(found)
    total, k = near.ids.shape
    words = [
        f"{sum(map(len, groups)):,} images in {len(groups):,} groups are near-duplicates of each other; "
        f"{total:,} images were searched for. {equal:,} more have several names, because their files are equal: "
        "those are indexed once.",
        _explained(found, k),
        _counted(len(groups), "groups", "the largest first"),
    ]
    rows = [
        [index(image).tile("" if place else f"one of {len(group)}") for place, image in enumerate(group[:TILES])]
        for group in groups[:ROWS]
    ]
    number = {image: place for place, group in enumerate(groups, 1) for image in group}
    section = Section("Groups of near-duplicates in the collection", words, ratio_chart(found, k), rows)
    lines = _pairs("group", found, index, index, number)
    return section, lines


def odd_section(
    odd: Sequence[Disagreeing], near: Neighbourhoods, title: str, image: Look, index: Look
) -> tuple[Section, Iterator[Line]]:
    """Images whose six nearest all have another label."""
    words = [
        f"{len(odd):,} of {len(near.images):,} images have a label that none of their six nearest has: a wrong label, "
        "an unusual image, or one that the network does not understand.",
        _counted(len(odd), "images", "those whose six agree most with each other first"),
    ]
    rows = [
        [image(one.image).tile(first=True), *(index(int(i)).tile() for i in near.ids[one.row, :SIX])]
        for one in odd[:ROWS]
    ]

    def lines() -> Iterator[Line]:
        for one in odd:
            of = image(one.image)
            for other, distance in zip(near.ids[one.row, :SIX], near.distances[one.row, :SIX], strict=True):
                its = index(int(other))
                yield title, "", of.name, of.label, its.name, its.label, float(distance), ""

    return Section(title, words, None, rows), lines()


def _pairs(report: str, found: Near, image: Look, index: Look, group: dict[int, int] | None = None) -> Iterator[Line]:
    for one, other, distance, ratio in found.pairs:
        of, its = image(one), index(other)
        yield report, group[one] if group else "", of.name, of.label, its.name, its.label, distance, ratio


def _explained(found: Near, k: int) -> str:
    return (
        f"A neighbour counts as a near-duplicate when its distance is at most {found.limit:.3f} of the distance to the "
        f"image's {k}th nearest. Were neighbours spread evenly around each image, at most {FALSE:.0%} of the images "
        "found so would be found by chance; the chart shows how many images have which ratio."
    )


def _counted(count: int, what: str, order: str) -> str:
    if not count:
        return "None."
    return f"{'All' if count <= ROWS else f'The first {ROWS} of {count:,}'} {what}, {order}."
