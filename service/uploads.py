"""Originals that were sent to the service: files in the bundle's folder, and a list that makes them a source of it.

bundles/<name>/uploads/       images.csv (path,label,id), and a file for each image, called by its SHA-256
bundles/<name>/uploads.lock   locked by the process that changes the folder

scripts/build_index.py reads the list as any other, so what was sent can be indexed again by another network. Nothing
that a caller sends becomes part of a path.
"""

import csv
import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import files
from index import BadBundle, Busy

__all__ = ["Upload", "Uploads"]

LIST = "images.csv"
COLUMNS = ("path", "label", "id")
LONGEST = 200  # characters of a name


@dataclass(frozen=True)
class Upload:
    """An encoded image to add to the collection."""

    data: bytes
    name: str = ""  # as the caller calls it
    label: str = ""  # class name

    @property
    def content(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def row(self) -> tuple[str, str, str]:
        """Its line in the list. Two images have different names, whatever they are called."""
        called = "".join(letter for letter in self.name if letter.isprintable()).strip()[-LONGEST:]
        return self.content, self.label, f"{self.content[:12]}/{called}" if called else self.content[:12]


class Uploads:
    """The folder of one bundle, which need not exist."""

    def __init__(self, bundle: Path) -> None:
        self._folder = bundle.resolve() / "uploads"
        self.list = self._folder / LIST

    def lock(self) -> IO[bytes]:
        """Lock the folder, until the returned file is closed or the process ends. Raises Busy, OSError."""
        try:
            return files.locked(self._folder.with_name("uploads.lock"))
        except files.AlreadyLocked as error:
            raise Busy(f"{self._folder}: another service is changing it") from error

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the lines of the list. Raises OSError; BadBundle for what this class has not written."""
        if not self.list.exists():
            return []
        try:
            with self.list.open(encoding="utf-8", newline="") as file:
                return [(content, label, name) for content, label, name in list(csv.reader(file))[1:]]
        except (csv.Error, ValueError) as error:
            raise BadBundle(f"{self.list}: a line is damaged: {error}") from error

    def add(self, uploads: Sequence[Upload]) -> None:
        """Write the files, then the list that names them, each through to the disk. Raises OSError."""
        files.make_folder(self._folder)
        for upload in uploads:
            files.replace(self._folder / upload.content, upload.data)
        new = {upload.content for upload in uploads}
        self._write([*(row for row in self.rows() if row[0] not in new), *(upload.row for upload in uploads)])

    def drop(self, contents: Collection[str]) -> None:
        """Delete the images' files, then take them out of the list. Raises OSError.

        In this order, because a full disk may refuse the list, and because a file that no list names would stay.
        """
        for content in contents:
            (self._folder / content).unlink(missing_ok=True)
        rows = self.rows()
        if len(left := [row for row in rows if row[0] not in contents]) < len(rows):
            self._write(left)

    def _write(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Replace the list; without a line there is none, because a list without images is refused."""
        if not rows:
            self.list.unlink()
            files.sync(self._folder)
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
        files.replace(self.list, text.getvalue().encode())
