"""Tar shards in WebDataset's layout as a collection: images are read from within them, nothing is unpacked.

    train-0000.tar    n01440764/10026.jpg  n01440764/10026.cls  n01440764/10027.jpg ...
    train-0001.tar    ...

Members that follow one another and have the same name up to the first dot of the file's name belong together. The first
image among them is the one that is taken. Its class is the text of .cls; else "label" or "cls" in .json; else .txt.
A link is not followed: it is an item without an image.
"""

import json
import os
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from model.data.encoded import EncodedImage, EncodedSource, opened
from model.data.labels import check_known, checked, in_order
from model.data.listing import MOMENT, counted, image_suffixes
from model.data.mapped import BadDataset
from model.data.sources import Report, printable
from model.data.tars import archive_errors, ends, members_of

__all__ = ["shard_source", "shards_at"]

LABELS = (".cls", ".json", ".txt")  # the first of these that gives a class
MAX_SHARDS = 100_000  # in a folder
MAX_MEMBERS = 1_000_000  # of a shard; one of a GB has some ten thousand
MAX_LABEL_BYTES = 1 << 16  # of a member that may name the class; a larger one is not read


def shards_at(path: Path) -> tuple[list[Path], Counter[str]] | None:
    """Return the shards that are meant by a path, sorted, and which other files are beside them, by suffix.

    A path is that of a tar, or of a folder with tars in it, without folders and without image files; else None. Raises
    BadDataset for a folder with too many.
    """
    if path.suffix.lower() == ".tar" and path.is_file():
        return [path], Counter()
    shards, others, images = list[Path](), Counter[str](), image_suffixes()
    try:
        with os.scandir(path) as names:
            for entry in names:
                suffix = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    continue
                if suffix in images or entry.is_dir():
                    return None
                if suffix == ".tar":
                    shards.append(path / entry.name)
                else:
                    others[suffix or "without a suffix"] += 1
                if len(shards) > MAX_SHARDS:
                    raise BadDataset(f"{path}: more than {MAX_SHARDS:,} shards")
    except OSError:  # whoever looks for images in it says why
        return None
    return (sorted(shards), others) if shards else None


def shard_source(
    path: Path,
    shards: list[Path],
    others: Counter[str],
    size: int,
    classes: tuple[str, ...] | None = None,
    report: Report = lambda *_: None,
) -> EncodedSource:
    """The images of shards, in the shards' order; a name is the shard's and the member's, "train-0000.tar/0001.jpg".

    A shard that is cut short, damaged or not readable gives what is whole in it, and one item without an image, whose
    reason says so. `classes`, where given, are the only ones allowed. Raises BadDataset where there are no images, or
    other classes.
    """
    found, begun, images, shown = list[_Shard](), time.monotonic(), 0, False
    for shard in shards:
        found.append(_read(shard))
        images += len(found[-1].images)
        if shown := time.monotonic() - begun > MOMENT:
            report("list", images, 0)
    if shown:
        report("list", images, images)
    ignored = sum((shard.ignored for shard in found), others)
    if not images:
        why = next((f"; {shard.path.name}: {shard.problem}" for shard in found if shard.problem), "")
        raise BadDataset(f"{path}: no images in its tars{why or ('; ' + counted(ignored) if ignored else '')}")
    names = {image.label for shard in found for image in shard.images if image.label}
    classes = in_order(names) if classes is None else classes
    check_known(path, names, classes)
    labels = {name: label for label, name in enumerate(classes)}
    return EncodedSource([image for shard in found for image in shard.encoded(labels)], classes, size, ignored)


class _Image(NamedTuple):
    """An image in a shard."""

    name: str
    offset: int  # bytes
    length: int  # bytes
    label: str  # class name, "" for none
    problem: str | None  # why there is nothing to read


@dataclass
class _Shard:
    """What is in a shard."""

    path: Path
    version: str = ""  # another one when the file has changed
    images: list[_Image] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # other members, by suffix
    problem: str | None = None  # why it ends before its end

    def encoded(self, labels: dict[str, int]) -> Iterator[EncodedImage]:
        """Its images; a name that is not the first of its kind gets its place behind it."""
        names, path, folder = set[str](), str(self.path), self.path.name
        for name, offset, length, label, problem in self.images:
            distinct = name if name not in names else f"{name} (at byte {offset})"
            names.add(name)
            shown = printable(f"{folder}/{distinct}")
            yield EncodedImage(shown, labels.get(label, -1), path, offset, length, problem, self.version)
        if self.problem:
            yield EncodedImage(printable(folder), -1, path, problem=self.problem, version=self.version)


def _read(path: Path) -> _Shard:
    """Read the headers of a shard, and the small members that name classes."""
    shard = _Shard(path)
    sample = _Sample(shard)
    try:
        with archive_errors(path), opened(path) as file:
            about = os.fstat(file.fileno())
            shard.version = f"{about.st_size} {about.st_mtime_ns}"
            for number, member in enumerate(members_of(path, file, 0, about.st_size)):
                if number == MAX_MEMBERS:
                    raise BadDataset(f"{path}: more than {MAX_MEMBERS:,} members; the rest is left out")
                sample.add(member, file)
            if not ends(file):
                raise BadDataset(f"{path}: ends without a tar's end; it may be cut short")
    except BadDataset as error:
        shard.problem = str(error).removeprefix(f"{path}: ")
    sample.end()
    return shard


class _Sample:
    """The members that belong together, while a shard is read."""

    def __init__(self, shard: _Shard) -> None:
        self.shard, self.key, self.suffixes = shard, "", image_suffixes()
        self.image: tarfile.TarInfo | None = None
        self.labels: dict[str, str] = {}

    def add(self, member: tarfile.TarInfo, file: BinaryIO) -> None:
        """Take the next member of the shard up."""
        folder, _, name = member.name.rpartition("/")
        if name.startswith(".") or member.isdir():
            return
        key, suffix = f"{folder}/{name.partition('.')[0]}", os.path.splitext(name)[1].lower()
        if key != self.key:
            self.end()
            self.key = key
        if suffix in self.suffixes and self.image is None:
            self.image = member
        elif suffix in LABELS and member.isfile() and member.size <= MAX_LABEL_BYTES:
            file.seek(member.offset_data)
            self.labels[suffix] = _class_name(suffix, file.read(member.size))
        else:
            self.shard.ignored[suffix or "without a suffix"] += 1

    def end(self) -> None:
        """Hand the image over with its class."""
        if self.image is not None:
            label = next((self.labels[suffix] for suffix in LABELS if self.labels.get(suffix)), "")
            place = (self.image.name, self.image.offset_data, self.image.size)
            self.shard.images.append(_Image(*place, label, _problem(self.image)))
        self.image, self.labels = None, {}


def _problem(member: tarfile.TarInfo) -> str | None:
    """Return why a member has no bytes of its own, None for a file."""
    if member.issym() or member.islnk():
        return f"a link to {printable(member.linkname)}; links in a tar are not followed"
    return None if member.isfile() else "not an ordinary file"


def _class_name(suffix: str, data: bytes) -> str:
    """Return the class that a member names, "" where it names none."""
    try:
        text = data.decode()
        if suffix == ".json":
            said = json.loads(text)
            value = said.get("label", said.get("cls")) if isinstance(said, dict) else None
            text = str(value) if isinstance(value, str | int) else ""
        return checked(text.strip(), suffix)
    except (ValueError, RecursionError):  # no text, no JSON, or a text about one image: BadDataset is a ValueError
        return ""
