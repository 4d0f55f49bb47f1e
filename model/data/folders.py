"""A path given by a user, opened as a collection: a folder of class folders, or a packed dataset's split."""

import os
from pathlib import Path
from typing import NoReturn

from model.data.packed import BadDataset, PackedSet
from model.data.sources import EncodedImage, EncodedSource, PackedSource, packed_source, printable

__all__ = ["folder_source", "open_source"]


def folder_source(path: Path | str, size: int, classes: tuple[str, ...] | None = None) -> EncodedSource:
    """The images of a folder of class folders, sorted by class, then by name.

    A class is a folder's name; its subfolders count too. Files that lie outside any folder have label -1; names that
    begin with a dot are left out. `classes`, where given, are the only ones allowed, in that order. Raises BadDataset
    where there are no images, or other classes, and where a folder cannot be read.
    """
    try:
        return _listed(Path(path), size, classes)
    except OSError as error:
        raise BadDataset(f"{error.filename}: cannot be read: {error.strerror}") from error


def open_source(path: Path | str, size: int, split: str = "train") -> EncodedSource | PackedSource:
    """Open a packed dataset's split, or a folder of class folders (its subfolder `split` where it has one).

    Raises BadDataset for anything else, and for a packed dataset whose images are not `size` pixels wide.
    """
    path = Path(path)
    if (path / "meta.json").is_file():
        packed = PackedSet.open(path)
        if packed.size != size:
            raise BadDataset(f"{path}: images of {packed.size} pixels where the network's recipe stores {size}")
        return packed_source(packed, split)
    return folder_source(path / split if (path / split).is_dir() else path, size)


def _listed(root: Path, size: int, classes: tuple[str, ...] | None) -> EncodedSource:
    if not root.is_dir():
        raise BadDataset(f"{root}: not a folder; a folder of class folders is wanted")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = tuple(printable(folder.name) for folder in folders)
    classes = found if classes is None else classes
    if unknown := sorted(set(found) - set(classes)):
        raise BadDataset(f"{root}: classes that the training images do not have: {', '.join(unknown[:5])}")
    images = [p for name, folder in zip(found, folders, strict=True) for p in _under(root, folder, classes.index(name))]
    images += [_encoded(root, entry, -1) for entry in sorted(root.iterdir()) if _is_image_file(entry)]
    if not images:
        raise BadDataset(f"{root}: no images in it; a folder of class folders is wanted")
    return EncodedSource(images, classes, size)


def _under(root: Path, folder: Path, label: int) -> list[EncodedImage]:
    found = [Path(place) / name for place, _, names in os.walk(folder, onerror=_unreadable) for name in names]
    return [_encoded(root, file, label) for file in sorted(found) if _is_image_file(file)]


def _unreadable(error: OSError) -> NoReturn:
    """os.walk would leave the folder out in silence."""
    raise error


def _is_image_file(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def _encoded(root: Path, file: Path, label: int) -> EncodedImage:
    about = file.stat()
    return EncodedImage(printable(str(file.relative_to(root))), label, str(file), 0, about.st_size, about.st_mtime_ns)
