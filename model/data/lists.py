"""A list of images as a collection: a CSV or Parquet file with a column path, and label and id if it has them.

    path,label,id
    photos/0001.jpg,frog,A-17

A path is relative to the list's folder. An id is a key from outside, and becomes the image's name; without one the path
is its name. Other columns are left alone. A file that is missing is an item without an image.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from model.data.encoded import EncodedImage, EncodedSource
from model.data.labels import check_known, checked, in_order
from model.data.list_rows import Row, csv_rows, parquet_rows
from model.data.mapped import BadDataset
from model.data.sources import printable

__all__ = ["is_list", "list_source"]

READERS = {".csv": csv_rows, ".parquet": parquet_rows}


def is_list(path: Path) -> bool:
    """Return whether a path is a list's, by its suffix."""
    return path.suffix.lower() in READERS and path.is_file()


def list_source(file: Path, size: int, classes: tuple[str, ...] | None = None) -> EncodedSource:
    """The images of a list, in its order. `classes`, where given, are the only ones allowed.

    Raises BadDataset for a file that is no list, has no rows or other classes, and for two rows of one name.
    """
    rows = list(_named(file, READERS[file.suffix.lower()](file)))
    if not rows:
        raise BadDataset(f"{file}: a list without images")
    names = {row.label for _, row in rows if row.label}
    classes = in_order(names) if classes is None else classes
    check_known(file, names, classes)
    labels, folder = {name: label for label, name in enumerate(classes)}, file.parent
    return EncodedSource([_image(folder, name, row, labels) for name, row in rows], classes, size)


def _named(file: Path, rows: Iterator[Row]) -> Iterator[tuple[str, Row]]:
    """Each row with the image's name. Raises BadDataset."""
    numbers = dict[str, int]()
    for row in rows:
        name, place = row.id or row.path, f"{file}, line {row.number}"
        if not row.path:
            raise BadDataset(f"{place}: no path")
        if (first := numbers.setdefault(name, row.number)) != row.number:
            kind = "id" if row.id else "path"
            raise BadDataset(f"{file}: lines {first} and {row.number} have the same {kind}, {printable(name)}")
        yield printable(name), row._replace(label=checked(row.label, place))


def _image(folder: Path, name: str, row: Row, labels: dict[str, int]) -> EncodedImage:
    problem = "a path with a character that is in no path" if "\0" in row.path else None
    return EncodedImage(name, labels.get(row.label, -1), os.path.join(folder, row.path), problem=problem)
