"""A bundle's folder: numbered generations, and CURRENT, which names one of them. Changes take effect by one rename.

bundles/<name>/   CURRENT ("0003")   lock   generations/0001 ... 0003   building/ (a build in progress)
                  NEXT ("4 1200": the smallest generation's number and the smallest image id that were never given)
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import files
from index.manifest import BadBundle

__all__ = ["NO_INDEX", "BundleFolder", "Busy", "DiskFull", "writing"]

KEPT = 3  # generations: the current one, and two to go back to
NO_INDEX = "no index here; scripts/build_index.py builds one"
GONE = ".gone-"  # starts the name of a generation that is being removed; it is no longer counted


class Busy(BadBundle):
    """Another process is writing to the bundle."""


class DiskFull(BadBundle):
    """The disk is full. The current generation is untouched; once there is room, the build can continue."""


class BundleFolder:
    """The generations in one bundle's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / "generations"

    def path(self, number: int) -> Path:
        """Return the folder of generation `number`, which need not exist."""
        return self._folder / f"{number:04}"

    def numbers(self) -> list[int]:
        """Return the numbers of all published generations, ascending."""
        names = [path.name for path in self._folder.glob("*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def current(self) -> int | None:
        """Return the number in CURRENT, or None when nothing was published yet. Raises BadBundle."""
        try:
            text = (self.root / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BadBundle(f"{self.root / 'CURRENT'}: cannot be read: {error}") from error
        if not text.isdecimal():
            raise BadBundle(f"{self.root / 'CURRENT'}: should hold a generation's number, not {text[:20]!r}")
        return int(text)

    def following(self, next_id: int) -> tuple[int, int]:
        """Return a generation's number and an image id that were never given. Raises BadBundle.

        next_id: of the current generation, 0 without one. It counts where a copy of the bundle came without NEXT.
        """
        number = max(self.numbers(), default=0) + 1
        try:
            given = [int(word) for word in (self.root / "NEXT").read_text().split()]
            return max(number, given[0]), max(next_id, given[1])
        except FileNotFoundError:
            return number, next_id
        except (OSError, ValueError, IndexError) as error:
            raise BadBundle(f"{self.root / 'NEXT'}: should hold two numbers: {error}") from error

    def publish(self, folder: Path, number: int, next_id: int) -> None:
        """Move the finished `folder` to its place as generation `number`, by one rename. Raises OSError.

        next_id: no image of it has this id, nor a larger one. It and the number are never given again.
        """
        files.make_folder(self._folder)
        files.replace(self.root / "NEXT", f"{number + 1} {next_id}\n".encode())
        folder.rename(self.path(number))
        files.sync(folder.parent)

    def point(self, number: int) -> None:
        """Make generation `number` the current one. Raises OSError; the old one stays current."""
        files.sync(self._folder)  # here, because the process that has renamed it may have been killed before it could
        files.replace(self.root / "CURRENT", f"{number:04}\n".encode())

    def remove(self, numbers: list[int]) -> None:
        """Remove generations. A process that has one open can still read it. Raises OSError.

        A file that cannot be deleted yet, as one that a reader has open on NFS, is left to a later call: see leftovers.
        """
        for number in numbers:
            self.path(number).rename(self._folder / f"{GONE}{number:04}")
        for leftover in self.leftovers():
            shutil.rmtree(leftover, ignore_errors=True)

    def leftovers(self) -> list[Path]:
        """Return the folders of removed generations whose files could not all be deleted."""
        return list(self._folder.glob(f"{GONE}*"))

    def lock(self) -> IO[bytes]:
        """Lock the bundle for writing, until the returned file is closed or the process ends.

        Raises BadBundle where there is no such folder, Busy, OSError.
        """
        if not self.root.exists():
            raise BadBundle(f"{self.root}: {NO_INDEX}")
        try:
            return files.locked(self.root / "lock")
        except files.AlreadyLocked as error:
            raise Busy(f"{self.root}: another process is building here; wait for it or stop it") from error


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn errors of the file system and of SQLite into DiskFull or BadBundle."""
    try:
        with files.translated(place, BadBundle, DiskFull):
            yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFull(files.no_space(place)) from error
        raise BadBundle(f"{place}: the catalogue cannot be written: {error}") from error
