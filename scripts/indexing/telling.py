"""What a run did: lines for people, and a file with a row for every input."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import files
from index import Generation, Published, Skipped
from index.queries import Queries
from scripts.command import Refused

__all__ = [
    "check_report",
    "generation_lines",
    "ledger_lines",
    "quality_lines",
    "skipped_lines",
    "source_lines",
    "write_report",
]

SHOWN = 10  # lines about images that could not be read
COLUMNS = ("source", "name", "outcome", "image_id", "reason")


def ledger_lines(ledger: Mapping[str, int]) -> Iterator[str]:
    """What became of the inputs of the last run; the counts add up to them."""
    if ledger["inputs"]:
        yield (
            f"{ledger['inputs']:,} inputs: {ledger['indexed']:,} indexed, {ledger['duplicate']:,} equal to another, "
            f"{ledger['skipped']:,} skipped, {ledger['kept']:,} kept, {ledger['excluded']:,} removed by id before"
        )
    if ledger["removed"] or ledger["renamed"]:
        yield f"{ledger['removed']:,} images removed, {ledger['renamed']:,} renamed"


def quality_lines(generation: Generation) -> Iterator[str]:
    """Which images were kept out of the index, and what those that were say of its answers."""
    queries, quality = Queries.read(generation.path), generation.manifest.quality
    if queries is not None and queries.source is not None and queries.names:
        yield f"{len(queries.names):,} images are not in it but measure it: --held-out 0 indexes them, too"
    if quality:
        found, agreed, k = quality["measured"]["recall"], quality["agreement"], quality["k"]
        said = f", {agreed['value']:.1%} of them with the image's label" if agreed else ""
        yield (
            f"{quality['queries']:,} held-out images: proven answers have the {k} nearest of all{said}; measured ones "
            f"have {found['value']:.2%} of those (95 %: {found['low']:.2%} to {found['high']:.2%})"
        )


def skipped_lines(skipped: Sequence[Skipped]) -> Iterator[str]:
    """The first images that could not be read."""
    for image in skipped[:SHOWN]:
        yield f"  skipped {image.name}: {image.reason}"
    if len(skipped) > SHOWN:
        yield f"  and {len(skipped) - SHOWN:,} more, which --report FILE lists"


def generation_lines(published: Iterable[Published]) -> Iterator[str]:
    """A bundle's generations."""
    for one in published:
        about = one.problem or f"{one.rows:,} images, {one.created}"
        yield f"generation {one.number}: {about}{', current' * one.is_current}"


def source_lines(generation: Generation) -> Iterator[str]:
    """The folders that a generation has images of, or had until the last run."""
    for source in generation.catalogue.sources():
        yield f"  {source}: {sum(1 for _ in generation.catalogue.names(source)):,} names"


def check_report(path: Path) -> None:
    """Raise Refused, before the work, where no report can be written."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Refused(f"--report {path}: not a file in a folder that is there")


def write_report(path: Path, generation: Generation, sources: Collection[str]) -> int:
    """Write a row, in CSV, for every input of these sources, and for every name that the last run took away.

    Returns how many. Raises Refused where the file cannot be written; the one that was there stays.
    """
    catalogue, queries = generation.catalogue, Queries.read(generation.path)
    held_out = queries.names if queries and queries.source in sources else ()
    inputs = ((source, named) for source in sources for named in catalogue.names(source))
    rows = chain(
        ((source, named.name, named.outcome, named.image_id, named.reason) for source, named in inputs),
        ((queries and queries.source, name, "held out", None, None) for name in held_out),
        ((gone.source, gone.name, gone.outcome, gone.image_id, None) for gone in catalogue.gone()),
    )
    count = 0
    with files.translated(path, Refused, Refused), files.replacing(path) as file:
        text = io.TextIOWrapper(
            file, "utf-8", "surrogateescape", newline="", write_through=True
        )  # a path need not be it
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow(row)
            count += 1
        text.detach()
    return count
