"""Bring a bundle up to date with a source: embed what is new, drop what is gone, keep what was renamed."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from index import BadBundle, Bundle, Changes, Generation, Layout
from index.assembly import Measure
from model import Checkpoint, Embedder, Source
from model.checkpoint import save
from model.data.encoded import EncodedSource
from model.data.listing import MOMENT
from model.data.sources import Report
from model.preprocess import EmbeddingPrecision
from scripts.command import Refused
from service.growing import finished

__all__ = [
    "build",
    "check_engine",
    "check_is_there",
    "check_readable",
    "compared",
    "file_of",
    "left_out",
    "watched",
]

FLAT = Layout()


def compared(
    bundle: Bundle, checkpoint: Checkpoint, source: Source, key: str, engine: str | None, layout: Layout
) -> Changes:
    """Compare a bundle with a source called `key`. Raises BadBundle, and Refused as `check_readable` does."""

    def entries() -> Iterator[tuple[str, str | None, str]]:
        for name, label, state in source.entries():
            yield name, source.classes[label] if label >= 0 else None, state

    inputs = checkpoint.fingerprints()
    changes = bundle.compare(inputs, engine=engine, source=key, total=len(source), entries=entries, layout=layout)
    check_readable(source, changes.gone)
    return changes


def check_readable(source: Source, gone: Iterable[str]) -> None:
    """Raise Refused where names are gone because the folder or the shard that they were in cannot be read."""
    if not isinstance(source, EncodedSource):
        return
    problems = {image.name: image.problem for image in source.images if image.problem is not None}
    for name in gone if problems else ():
        parts = name.split("/")
        for place in (".", *("/".join(parts[:depth]) for depth in range(1, len(parts)))):
            if place in problems:
                raise Refused(
                    f"{place}: {problems[place]}; {name} and all else that was found in it would be dropped: "
                    "make it readable, or take it out of the collection"
                )


def check_is_there(bundle: Bundle, changes: Changes) -> None:
    """Raise Refused where a source is not yet in a bundle that holds others: adding it has a flag of its own."""
    if changes.fresh:
        return
    with closing(bundle.current()) as generation:
        sources = generation.catalogue.sources()
    if changes.source not in sources:
        moved = "" if Path(sources[0]).exists() else "; where they were moved, --missing then drops the old names"
        raise Refused(
            f"{bundle.path}: it holds the images of {sources[0]}; --add {changes.source} adds these to them{moved}; "
            "another --bundle keeps them apart"
        )


def check_engine(bundle: Bundle, engine: str) -> None:
    """Raise Refused where what is added would have features of another engine than what is there."""
    with closing(bundle.current()) as generation:
        there = generation.manifest.engine
    if there != engine:
        raise Refused(f"{bundle.path}: its features were computed by {there}, not {engine}: give --engine {there}")


def left_out(bundle: Bundle, key: str, embedder: Embedder) -> list[str]:
    """Return the other sources whose images a build leaves out, because other features than these are there."""
    try:
        generation = bundle.current()
    except BadBundle:  # there is none, or one of an older format, which has no sources
        return []
    with closing(generation):
        inputs, made_by = dict(generation.manifest.inputs), generation.manifest.engine
        if (inputs, made_by) == (dict(embedder.checkpoint.fingerprints()), embedder.engine):
            return []
        return [source for source in generation.catalogue.sources() if source != key]


def build(
    embedder: Embedder,
    source: Source,
    key: str,
    bundle: Bundle,
    file: Path,
    report: Report,
    layout: Layout = FLAT,
    measure: Measure | None = None,
) -> Generation:
    """Embed block by block what is new in a source called `key`, and publish it with the checkpoint `file`.

    measure: what the manifest is to say of its quality. Raises BadBundle, and Refused as `check_readable` does.
    """
    changes = compared(bundle, embedder.checkpoint, source, key, embedder.engine, layout)
    with watched(source.subset(changes.new), report) as identity:
        begun = bundle.begin(
            embedder.checkpoint.fingerprints(),
            file,
            changes=changes,
            identity=identity,
            width=embedder.width,
            engine=embedder.engine,
            classes=source.classes,
            layout=layout,
        )
    with begun as building:
        return finished(building, embedder, source, changes.new, measure, report)


@contextmanager
def watched(source: Source, report: Report) -> Iterator[Callable[[int, int], str]]:
    """source.identity, which reports how far it is when looking at the files takes longer than a moment."""
    begun, checked = time.monotonic(), 0

    def identity(start: int, stop: int) -> str:
        nonlocal checked
        if time.monotonic() - begun > MOMENT:
            report("check", checked := stop, 0)
        return source.identity(start, stop)

    try:
        yield identity
    finally:
        if checked:
            report("check", checked, checked)  # the end, wherever it is: where something has changed, say


@contextmanager
def file_of(checkpoint: Checkpoint, given: Path, precision: EmbeddingPrecision) -> Iterator[Path]:
    """The file that the bundle copies: the given one, or a temporary one where that one has another precision."""
    if checkpoint.recipe.precision == precision:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / given.name, checkpoint)
        yield Path(folder) / given.name
