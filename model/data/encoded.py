"""Encoded images as a collection: files, or parts of archives, which are not unpacked; decoded on all cores."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from model.data.sources import Item
from model.data.threads import on_all_cores
from model.preprocess import BadImage, stored_image
from model.thumbnails import stored_image_and_thumbnail

__all__ = ["EncodedImage", "EncodedSource"]

MAX_BYTES = 1 << 28  # of an encoded image; each core reads one into memory


class EncodedImage(NamedTuple):
    """Where one encoded image lies: a file, or a region of an archive. (A tuple: a million of them take a second.)"""

    name: str
    label: int
    file: str
    offset: int = 0  # bytes
    length: int | None = None  # bytes; None: the whole file, whatever its size
    problem: str | None = None  # why there is nothing to read

    def state(self) -> tuple[int | str, ...]:
        """What changes when the image does, as it is now: the region, or the file's size, time of change and right."""
        if self.problem is not None:
            return (self.problem,)
        if self.length is not None:
            return self.offset, self.length
        try:
            about = os.stat(self.file)
        except OSError as error:
            return (error.errno or 0,)
        return about.st_size, about.st_mtime_ns, os.access(self.file, os.R_OK)

    def data(self) -> bytes:
        """The encoded bytes. Raises OSError; BadImage for a file that is too large, or no ordinary one: not opened."""
        _ordinary(os.stat(self.file))
        with open(self.file, "rb", opener=_at_once) as file:
            size = _ordinary(os.fstat(file.fileno()))
            length = size if self.length is None else self.length
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

    def read(self, start: int, stop: int, *, thumbnails: bool = False) -> list[Item]:
        """Return the items start <= image_id < stop; `image_id` is a position in `images`."""
        return on_all_cores(partial(self._item, thumbnails), range(start, min(stop, len(self))))

    def _item(self, thumbnails: bool, image_id: int) -> Item:
        encoded = self.images[image_id]
        if encoded.problem is not None:
            return Item(image_id, encoded.name, encoded.label, None, encoded.problem)
        try:
            data = encoded.data()
            image, thumb = (
                stored_image_and_thumbnail(data, self.size) if thumbnails else (stored_image(data, self.size), None)
            )
        except BadImage as error:
            return Item(image_id, encoded.name, encoded.label, None, str(error))
        except OSError as error:
            return Item(image_id, encoded.name, encoded.label, None, f"the file cannot be read: {error.strerror}")
        return Item(image_id, encoded.name, encoded.label, image, None, thumb)


def _ordinary(about: os.stat_result) -> int:
    """Return a file's size in bytes. Raises BadImage for a pipe or a device, which would be waited for."""
    if not stat.S_ISREG(about.st_mode):
        raise BadImage("not an ordinary file")
    return about.st_size


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting, should it have become a pipe since it was looked at."""
    return os.open(path, flags | os.O_NONBLOCK)
