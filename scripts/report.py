"""What the index shows of its images: near-duplicates, labels that no neighbour has, and pixels against fc7."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import files
from index import Bundle, Generation, Search, gpus_of, open_search
from index.queries import Queries
from model import Embedder, Source, load_checkpoint, open_source
from model.data.class_names import people_names
from model.data.held_out import held_out_split
from model.data.sources import Report, printable
from model.progress import counting
from scripts.command import Refused, run
from scripts.reports.findings import SIX, disagreeing, near_duplicates
from scripts.reports.neighbourhoods import of_collection, of_source
from scripts.reports.page import Section, page
from scripts.reports.pixel_section import pixel_section
from scripts.reports.sections import HEAD, Line, group_section, held_out, indexed, near_section, odd_section

Reports = Iterator[tuple[Section, Iterator[Line]]]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Write a page of images and a table: near-duplicates, odd labels, and the nearest by pixels and by fc7."""

    bundle: Path = Path("bundles/cifar10")  # the index
    images: Path = Path("data/cifar10")  # what was indexed; its held-out images are compared with the index
    class_names: Path | None = None  # names of the class folders, where build_index.py was given such a file
    out: Path = Path("report")  # folder for page.html, which needs no other file, and findings.csv
    most: int = 100_000  # indexed images that are searched for; of more, this many, evenly chosen
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N


def collection_reports(generation: Generation, search: Search, most: int, report: Report) -> Reports:
    """Report on the indexed images themselves."""
    near, look = of_collection(generation, search, most, report), indexed(generation)
    yield group_section(near_duplicates(near), near, look, len(generation.catalogue.duplicates()))
    yield odd_section(disagreeing(near), near, "Indexed images with another label than their six nearest", look, look)


def held_out_reports(
    generation: Generation, search: Search, embedder: Embedder, source: Source, classes: Sequence[str], report: Report
) -> Reports:
    """Report on images that are not in the index: those of `source`, whose classes the index names as in `classes`."""
    near = of_source(generation, search, embedder, source, classes, report)
    if not len(near.images):
        return
    query, look = held_out(source, classes), indexed(generation)
    yield near_section(near_duplicates(near), near, query, look)
    yield odd_section(disagreeing(near), near, "Held-out images with another label than their six nearest", query, look)
    yield pixel_section(generation, near, query, look, report)


def held_out_images(generation: Generation, images: Path, size: int) -> Source | None:
    """Return a dataset's held-out split, or the images that were kept out of the collection when it was built.

    Raises BadDataset; Refused where none of these is among `images`.
    """
    split = held_out_split(images, size)
    if split is not None:
        return split
    queries = Queries.read(generation.path)
    if queries is None or queries.source is None:
        return None
    source, names = open_source(images, size), set(queries.names)
    rows = [row for row, (name, _, _) in enumerate(source.entries()) if name in names]
    if names and not rows:
        raise Refused(f"--images {images}: none of the {len(names)} images that were kept out of {queries.source}")
    return source.subset(rows)


def job(config: Config) -> None:
    """Search, and write the page and the table."""
    if config.most < 1:
        raise Refused(f"--most {config.most}: at least one image is searched for")
    report, sections, lines = counting("images"), list[Section](), list[Iterator[Line]]()
    with closing(Bundle(config.bundle).current()) as generation:
        if len(generation.ids) <= SIX:
            raise Refused(f"{config.bundle}: {len(generation.ids)} images; a report needs more than {SIX}")
        with files.translated(config.out, Refused, Refused):
            files.make_folder(config.out)  # now: where it cannot be made is told before minutes of searching
        embedder = Embedder(load_checkpoint(generation.checkpoint), config.device)
        search = open_search(generation, gpus=gpus_of(embedder.device))
        source = held_out_images(generation, config.images, embedder.recipe.stored)
        found = collection_reports(generation, search, config.most, report)
        if source is None:
            print(f"{config.images}: no held-out images, so the index is compared with itself alone")
        else:
            classes = people_names(source.classes, config.class_names)
            found = itertools.chain(held_out_reports(generation, search, embedder, source, classes, report), found)
        for section, its_lines in found:
            print(f"{section.title}: {section.words[0]}")
            sections.append(section)
            lines.append(its_lines)
        with files.translated(config.out, Refused, Refused):
            write(config, generation, sections, itertools.chain.from_iterable(lines))


def write(config: Config, generation: Generation, sections: list[Section], lines: Iterator[Line]) -> None:
    """Write page.html and findings.csv. Raises OSError."""
    about = f"Generation {generation.number} of {printable(str(config.bundle))}: {len(generation.ids):,} images"
    words = [f"{about}, built {generation.manifest.created}."]
    files.replace(config.out / "page.html", page("What the index shows", words, sections).encode())
    with files.replacing(config.out / "findings.csv") as file:
        table = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(table)
        writer.writerow(HEAD)
        writer.writerows(lines)
        table.flush()
        table.detach()
    print(f"{config.out / 'page.html'} and {config.out / 'findings.csv'} written")


if __name__ == "__main__":
    run(Config, job)
