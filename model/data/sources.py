"""Collections of images to embed or to pack: items in the order of their ids, read by position.

A job that stops can therefore continue at any item.
"""

import os
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Entry",
    "Item",
    "Report",
    "Source",
    "printable",
]

CONTROL = re.compile("[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]")
Report = Callable[[str, int, int], None]  # how far a long job is: of what, how much is done, how much in all


@dataclass(frozen=True)
class Item:
    """One image of a collection, as it was read. Without `image` it could not be, or its content was known already."""

    image_id: int  # position in the collection
    name: str  # relative path, "frog/0001.png"
    label: int  # class id, -1 unknown
    image: NDArray[np.uint8] | None  # (S, S, 3)
    skipped: str | None  # the reason why it cannot be read
    state: str = ""  # as in Source.entries, before it was read
    content: str | None = None  # SHA-256 of the encoded bytes, or of the stored pixels where there are no others
    thumbnail: bytes | None = None  # an encoded image for the page


class Entry(NamedTuple):
    """What an index keeps of an item whether it has been embedded or not; the fields are Item's."""

    image_id: int
    name: str
    label: int
    state: str
    content: str | None  # None where it was skipped
    skipped: str | None


class Source(Protocol):
    """A collection of images in a fixed order. Names are unique."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position in them."""

    @property
    def size(self) -> int:
        """S, pixels."""

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of what the items start <= image_id < stop are made from: another one when any of them has changed.

        Nothing is decoded. Taken before `read`, it never belongs to newer files than the items do.
        """

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Name, label and state of each image, in order. A state is another one when the image has changed.

        Nothing is read: a file's state is its size and time of change, that of a packed row is the dataset's.
        """

    def subset(self, positions: Sequence[int]) -> "Source":
        """Return the images at these positions as a collection of their own, in this order."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        """Return the items start <= image_id < stop, in order. One that cannot be read has a reason, and no image.

        With `known`, contents and thumbnails are made too, as an index wants them, and an item whose content is among
        the known ones has no image.
        """


def printable(name: str) -> str:
    r"""Return a name as one line of UTF-8; different names stay different.

    Control characters, which terminals would obey, and bytes that are no text become escapes such as \n and \xff; a
    backslash is doubled.
    """
    if name.isprintable() and "\\" not in name:
        return name
    text = os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return CONTROL.sub(_escaped, text)


def _escaped(control: re.Match[str]) -> str:
    """As \\u0085 beyond ASCII, because \\x85 is a byte that is no text."""
    code = ord(control[0])
    return f"\\u{code:04x}" if code > 0x7F else control[0].encode("unicode_escape").decode()
