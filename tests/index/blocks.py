"""A small synthetic collection with random features, for the tests of the store and their child processes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index import Building, Bundle, Changes, Generation, Layout
from index.assembly import Measure

TOTAL, WIDTH, BLOCK = 230, 48, 10
CLASSES = ("cat", "dog", "frog")
INPUTS = {"weights": "w" * 64, "recipe": "r" * 64}
SOURCE = "/images"
LOST = 7  # every LOST-th image could not be read


class Entry(NamedTuple):
    """As model.data.sources makes them."""

    image_id: int
    name: str
    label: int
    state: str
    content: str | None
    skipped: str | None


@dataclass(frozen=True)
class Embedded:
    """A block, as model.collection makes them."""

    start: int
    stop: int
    entries: tuple[Entry, ...]
    ids: NDArray[np.int64]
    features: NDArray[np.float32]
    thumbnails: tuple[bytes, ...]
    identity: str


class File(NamedTuple):
    """One file of a collection. Equal `bytes` are the same image; without any it cannot be read."""

    name: str
    bytes: str
    label: int = -1
    time: int = 0  # of its last change


@dataclass(frozen=True)
class Files:
    """A collection of files, as model.data.sources has them."""

    files: Sequence[File]
    key: str = SOURCE
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.files)

    def entries(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield the name, class name and state of each file."""
        return ((f.name, self.classes[f.label] if f.label >= 0 else None, _state(f)) for f in self.files)

    def identity(self, start: int, stop: int) -> str:
        """Return what the files start ... stop - 1 are."""
        return f"{start} {stop} {hashlib.sha256(repr(list(self.files[start:stop])).encode()).hexdigest()}"

    def original(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes and the content of a file, as model.data.originals does."""
        data = next((f.bytes.encode() for f in self.files if f.name == name), b"")
        return (data, hashlib.sha256(data).hexdigest()) if data else None

    def subset(self, positions: Sequence[int]) -> "Files":
        """Return these files alone."""
        return Files([self.files[position] for position in positions], self.key, self.classes)

    def block(self, start: int, stop: int, known: set[str], width: int = WIDTH) -> Embedded:
        """Return files start ... stop - 1; contents not in `known` are embedded, and put there."""
        entries, new = list[Entry](), list[tuple[int, str]]()
        for position, f in enumerate(self.files[start:stop], start):
            content = hashlib.sha256(f.bytes.encode()).hexdigest() if f.bytes else None
            entries.append(Entry(position, f.name, f.label, _state(f), content, None if f.bytes else "truncated"))
            if content is not None and content not in known:
                known.add(content)
                new.append((position, f.bytes))
        return Embedded(
            start,
            stop,
            tuple(entries),
            np.array([position for position, _ in new], np.int64),
            np.array([features_of(data, width) for _, data in new], np.float32).reshape(-1, width),
            tuple(f"thumbnail of {data}".encode() * 40 for _, data in new),
            self.identity(start, stop),
        )


def features_of(data: str, width: int = WIDTH) -> NDArray[np.float32]:
    """Return the features (width,) of a file's bytes."""
    return np.random.default_rng(list(data.encode())).standard_normal(width, dtype=np.float32)


def _state(file: File) -> str:
    return f"{len(file.bytes)} {file.time}"


def collection(total: int = TOTAL, lost: int = LOST) -> Files:
    """Return `total` files; every `lost`-th could not be read, every fifth has the label -1."""
    return Files(
        [
            File(f"{CLASSES[i % 3]}/{i:04}.png", f"image {i}" if i % lost else "", i % 3 if i % 5 else -1)
            for i in range(total)
        ]
    )


def block(start: int, stop: int, width: int = WIDTH, lost: int = LOST) -> Embedded:
    """Return images start ... stop - 1 of the collection."""
    return collection(stop, lost).block(start, stop, set(), width)


def blocks(start: int = 0, total: int = TOTAL) -> Iterator[Embedded]:
    """Yield the collection's blocks from image `start` on."""
    for first in range(start, total, BLOCK):
        yield collection(total).block(first, min(first + BLOCK, total), set())


identity = collection().identity


@dataclass(frozen=True)
class Run:
    """What a run of the batch job is given beside the files."""

    inputs: Mapping[str, str] = field(default_factory=lambda: INPUTS)
    engine: str = "torch"
    width: int = WIDTH
    layout: Layout = field(default_factory=Layout)


PLAIN = Run()


def changes(path: Path, source: Files, run: Run = PLAIN) -> Changes:
    """Compare the bundle with the files."""
    return Bundle(path).compare(
        run.inputs,
        engine=run.engine,
        source=source.key,
        total=len(source),
        entries=source.entries,
        layout=run.layout,
    )


def begun(path: Path, checkpoint: Path, source: Files | None = None, run: Run = PLAIN) -> Building:
    """Begin, or continue, a build that brings the bundle up to date with these files."""
    source = collection() if source is None else source
    found = changes(path, source, run)
    return Bundle(path).begin(
        run.inputs,
        checkpoint,
        changes=found,
        identity=source.subset(found.new).identity,
        width=run.width,
        engine=run.engine,
        classes=source.classes,
        layout=run.layout,
    )


def build(
    path: Path, checkpoint: Path, source: Files | None = None, run: Run = PLAIN, measure: Measure | None = None
) -> Generation:
    """Begin, or continue, a build and publish it."""
    source = collection() if source is None else source
    found = changes(path, source, run)
    with begun(path, checkpoint, source, run) as building:
        work, known = source.subset(found.new), building.known()
        for start in range(building.done, len(work), BLOCK):
            building.append(work.block(start, min(start + BLOCK, len(work)), known, run.width))
        return building.publish(measure)


def contents(generation: Generation) -> dict[str, bytes]:
    """Return the bytes of every file that must not depend on how often the build was killed."""
    paths = [path for path in generation.path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(generation.path)): path.read_bytes() for path in paths}
