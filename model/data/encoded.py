"""Encoded images as a collection: files, or parts of archives, which are not unpacked; decoded on all cores."""

import hashlib
import json
import os
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from model.data.sources import Item
from model.data.threads import on_all_cores
from model.preprocess import BadImage, stored_image
from model.thumbnails import stored_image_and_thumbnail

__all__ = ["MISSING", "EncodedImage", "EncodedSource", "opened"]

MISSING = "missing"  # the state of a file that is not there
MAX_BYTES = 1 << 28  # of an encoded image; each core reads one into memory


class EncodedImage(NamedTuple):
    """Where one encoded image lies: a file, or a region of an archive. (A tuple: a million of them take a second.)"""

    name: str
    label: int
    file: str
    offset: int = 0  # bytes
    length: int | None = None  # bytes; None: the whole file, whatever its size
    problem: str | None = None  # why there is nothing to read
    version: str = ""  # of an archive that may change: another one when it has

    def state(self) -> tuple[int | str, ...]:
        """What changes when the image does, as it is now: the region, or the file's size, time of change and right."""
        version = (self.version,) if self.version else ()
        if self.problem is not None:
            return self.problem, *version
        if self.length is not None:
            return self.offset, self.length, *version
        try:
            about = os.stat(self.file)
        except FileNotFoundError:
            return (MISSING,)
        except OSError as error:
            return (error.errno or 0,)
        return about.st_size, about.st_mtime_ns, os.access(self.file, os.R_OK)

    def data(self) -> bytes:
        """The encoded bytes. Raises OSError; BadImage for a file that is too large, or no ordinary one: not opened."""
        if self.problem is not None:
            raise BadImage(self.problem)
        with opened(self.file) as file:
            length = os.fstat(file.fileno()).st_size if self.length is None else self.length
            if length > MAX_BYTES:
                raise BadImage(f"{length:,} bytes are no image's")
            file.seek(self.offset)
            return file.read(length)


@dataclass(frozen=True)
class EncodedSource:
    """Encoded images, decoded on all cores."""

    images: Sequence[EncodedImage]
    classes: tuple[str, ...]
    size: int
    ignored: Mapping[str, int] = field(default_factory=dict)  # files beside them, by suffix: listing.counted

    def __len__(self) -> int:
        return len(self.images)

    def identity(self, start: int, stop: int) -> str:
        """SHA-256 of names, labels, and regions or sizes and times of change, as they are now."""
        images = [(p.name, p.label, p.state()) for p in self.images[start:stop]]
        return hashlib.sha256(json.dumps([self.size, self.classes, images]).encode()).hexdigest()

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Name, label and state of each image, as it is now."""
        return ((image.name, image.label, _text(image.state())) for image in self.images)

    def subset(self, positions: Sequence[int]) -> Self:
        """Return the images at these positions as a collection, in this order."""
        return replace(self, images=[self.images[position] for position in positions], ignored={})

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a position in `images`.

        A content is the SHA-256 of the encoded bytes; those of a known one are not decoded.
        """
        return on_all_cores(partial(self._item, known), range(start, min(stop, len(self))))

    def _item(self, known: Container[str] | None, image_id: int) -> Item:
        encoded = self.images[image_id]
        state = _text(encoded.state())  # first: what changes from here on is found changed by the next build
        try:
            image, content, thumbnail = self._read(encoded, known)
        except BadImage as error:
            return Item(image_id, encoded.name, encoded.label, None, str(error), state)
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror}"
            return Item(image_id, encoded.name, encoded.label, None, reason, state)
        return Item(image_id, encoded.name, encoded.label, image, None, state, content, thumbnail)

    def _read(
        self, encoded: EncodedImage, known: Container[str] | None
    ) -> tuple[NDArray[np.uint8] | None, str | None, bytes | None]:
        """Image, content and thumbnail, as `read` says. Raises BadImage, OSError."""
        data = encoded.data()
        if known is None:
            return stored_image(data, self.size), None, None
        content = hashlib.sha256(data).hexdigest()
        if content in known:
            return None, content, None
        image, thumbnail = stored_image_and_thumbnail(data, self.size)
        return image, content, thumbnail


def _text(state: tuple[int | str, ...]) -> str:
    return " ".join(map(str, state))


@contextmanager
def opened(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file. Raises OSError; BadImage for a pipe or a device, which would be waited for: it is not opened."""
    _check_ordinary(os.stat(path))
    with open(path, "rb", opener=_at_once) as file:
        _check_ordinary(os.fstat(file.fileno()))
        yield file


def _check_ordinary(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise BadImage("not an ordinary file")


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting, should it have become a pipe since it was looked at."""
    return os.open(path, flags | os.O_NONBLOCK)
