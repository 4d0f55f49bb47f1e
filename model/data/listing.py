"""The image files below a folder, by name alone: a million are listed in seconds, because none is opened or measured.

Symbolic links to folders are followed. Each folder counts once, under its own path or else under the first link to it,
so loops of links end. Two paths to one file are two images. Names that begin with a dot are left out.
"""

import errno
import heapq
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from model.data.sources import Report, printable
from model.preprocess import FORMATS

__all__ = ["MOMENT", "SPECIAL", "Listing", "Place", "counted", "image_suffixes", "list_images"]

Place = tuple[str, ...]  # names from the root down
SPECIAL = "not a file"  # a link to nothing, a pipe, a socket, a device
MOMENT = 1.0  # seconds that a look at names or files may take before it shows how far it is
SHOWN = 3  # suffixes in a sentence


@dataclass
class Listing:
    """What a tree holds."""

    folders: dict[Place, list[str]] = field(default_factory=dict)  # names of image files, both sorted
    unreadable: dict[Place, str] = field(default_factory=dict)  # folders, and links, that lead nowhere: the reason
    ignored: Counter[str] = field(default_factory=Counter)  # other files, by suffix or SPECIAL


def list_images(root: Path, report: Report = lambda *_: None) -> Listing:
    """List a tree. `report` is told how many images were found so far, of 0, when it takes longer than a moment.

    A file counts as an image by its suffix, and without a suffix. What cannot be read is in `unreadable`, the root too.
    """
    walk, images, shown, begun = _Walk(root), 0, False, time.monotonic()
    while walk.waiting or walk.links:
        names = walk.look_into(walk.waiting.pop() if walk.waiting else heapq.heappop(walk.links))
        images += len(names)
        if shown := images > 0 and time.monotonic() - begun > MOMENT:
            report("list", images, 0)
    if shown:
        report("list", images, images)
    found = walk.found
    return Listing(dict(sorted(found.folders.items())), dict(sorted(found.unreadable.items())), found.ignored)


def counted(ignored: Mapping[str, int]) -> str:
    """Return how many other files there are, and the most common suffixes, in one line without an end."""
    common = [f"{count:,} {printable(suffix)}" for suffix, count in Counter(ignored).most_common(SHOWN)]
    return f"{sum(ignored.values()):,} other files ignored ({', '.join(common)}{', ...' * (len(ignored) > SHOWN)})"


def image_suffixes() -> set[str]:
    """Return the suffixes of accepted image files, ".jpg" among them."""
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}


class _Walk:
    """A walk through a tree, without recursion: trees may be deeper than Python's stack."""

    def __init__(self, root: Path) -> None:
        self.root, self.found = str(root), Listing()
        self.suffixes = {"", *image_suffixes()}
        self.seen: set[tuple[int, int]] = set()
        self.waiting: list[Place] = [()]
        self.links: list[Place] = []  # a heap: links are followed in order, and only when no folder is waiting

    def look_into(self, place: Place) -> list[str]:
        """Sort out what one folder holds, and return the names of its image files."""
        path, names = os.path.join(self.root, *place), list[str]()
        try:
            about = os.stat(path)
            if (about.st_dev, about.st_ino) in self.seen:
                return []
            self.seen.add((about.st_dev, about.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        self._sort_out(entry, place, names)
        except OSError as error:
            self.found.unreadable[place] = error.strerror or str(error)
        if names:
            self.found.folders[place] = sorted(names)
        return names

    def _sort_out(self, entry: os.DirEntry[str], place: Place, names: list[str]) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        try:
            if entry.is_dir(follow_symlinks=False):
                self.waiting.append((*place, entry.name))
            elif entry.is_dir():
                heapq.heappush(self.links, (*place, entry.name))
            elif suffix in self.suffixes and entry.is_file():
                names.append(entry.name)
            else:
                self.found.ignored[SPECIAL if suffix in self.suffixes else suffix] += 1
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link to itself
                self.found.ignored[SPECIAL] += 1
            else:
                self.found.unreadable[(*place, entry.name)] = error.strerror or str(error)
