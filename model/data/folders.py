"""A path given by a user, opened as a collection: a tree of folders, a list, shards, or a packed dataset's split."""

import os
from collections.abc import Iterator
from pathlib import Path

from model.data.encoded import EncodedImage, EncodedSource
from model.data.labels import check_known
from model.data.listing import Listing, Place, counted, list_images
from model.data.lists import is_list, list_source
from model.data.packed import BadDataset, PackedSet
from model.data.rows import PackedSource, packed_source
from model.data.shards import shard_source, shards_at
from model.data.sources import Report, printable
from model.preprocess import ACCEPTED

__all__ = ["check_fit", "encoded_source", "folder_source", "open_source", "part"]


def folder_source(
    path: Path | str, size: int, classes: tuple[str, ...] | None = None, report: Report = lambda *_: None
) -> EncodedSource:
    """The images of a tree, sorted by folder, then by name; `list_images` says which files those are.

    An image's class is the folder at the top that it lies in; images outside any folder have label -1 and come last.
    `classes`, where given, are the only ones allowed, in that order. A folder that cannot be read is an item without an
    image, whose reason says so. Raises BadDataset where there are no images, or other classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise BadDataset(f"{root}: not a folder; a folder of images is wanted, or a list (.csv, .parquet), or a .tar")
    found = list_images(root, report)
    if not found.folders:
        raise BadDataset(f"{root}: {_why_nothing(found)}")
    tops = tuple(dict.fromkeys(printable(place[0]) for place in found.folders if place))
    classes = tops if classes is None else classes
    check_known(root, tops, classes)
    labels = {top: label for label, top in enumerate(classes)}
    images = [*_images(root, found, labels), *_unreadable(root, found, labels)]
    return EncodedSource(images, classes, size, found.ignored)


def part(path: Path, split: str) -> Path:
    """Return a folder's subfolder `split` ("train", say) where it has one: a dataset's; else the folder itself."""
    own = path / split
    return own if own.is_dir() else path


def encoded_source(
    path: Path, size: int, classes: tuple[str, ...] | None = None, report: Report = lambda *_: None
) -> EncodedSource:
    """Open a tree of folders, a list or shards as what it is. Raises BadDataset."""
    if is_list(path):
        return list_source(path, size, classes)
    if shards := shards_at(path):
        return shard_source(path, *shards, size, classes, report)
    return folder_source(path, size, classes, report)


def open_source(
    path: Path | str, size: int, split: str = "train", report: Report = lambda *_: None
) -> EncodedSource | PackedSource:
    """Open a packed dataset's split, or images: a list, shards, a folder (its subfolder `split` where it has one).

    Raises BadDataset for anything else, and for a packed dataset whose images are not `size` pixels wide.
    """
    path = Path(path)
    if (path / "meta.json").is_file():
        packed = PackedSet.open(path)
        check_fit(packed, size)
        return packed_source(packed, split)
    return encoded_source(part(path, split), size, report=report)


def check_fit(packed: PackedSet, size: int) -> None:
    """Raise BadDataset for a packed dataset whose images are not `size` pixels wide."""
    if packed.size != size:
        raise BadDataset(f"{packed.path}: images of {packed.size} pixels where the network's recipe stores {size}")


def _images(root: Path, found: Listing, labels: dict[str, int]) -> Iterator[EncodedImage]:
    for place in sorted(found.folders, key=lambda place: (not place, place)):
        label, folder, path = _label(place, labels), "".join(f"{name}/" for name in place), os.path.join(root, *place)
        for name in found.folders[place]:
            yield EncodedImage(printable(folder + name), label, f"{path}/{name}")


def _unreadable(root: Path, found: Listing, labels: dict[str, int]) -> Iterator[EncodedImage]:
    for place, reason in found.unreadable.items():
        problem = f"cannot be looked into: {reason}"
        yield EncodedImage(_name(place), _label(place, labels), os.path.join(root, *place), problem=problem)


def _name(place: Place) -> str:
    return printable("/".join(place) or ".")


def _label(place: Place, labels: dict[str, int]) -> int:
    return labels.get(printable(place[0]), -1) if place else -1


def _why_nothing(found: Listing) -> str:
    for place, reason in found.unreadable.items():
        return f"no images in it; {_name(place)} cannot be looked into: {reason}"
    return f"no images in it{'; ' + counted(found.ignored) if found.ignored else ''}; {ACCEPTED}"
