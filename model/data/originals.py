"""One image of a collection as encoded bytes: its file's where it has one, else a PNG of the stored image."""

import hashlib
from collections.abc import Callable

from model.data.encoded import EncodedSource
from model.data.sources import Source
from model.preprocess import BadImage
from model.thumbnails import png

__all__ = ["originals"]


def originals(source: Source) -> Callable[[str], tuple[bytes, str] | None]:
    """Return what gives an image by its name: encoded bytes, which are decoded to the image that the source stores,
    and the content as Item has it. It gives None where there is no such image, or none that can be read.

    The names are looked up when the first image is asked for.
    """
    positions = dict[str, int]()

    def original(name: str) -> tuple[bytes, str] | None:
        if not positions:
            positions.update({found: place for place, (found, _, _) in enumerate(source.entries())})
        if (place := positions.get(name)) is None:
            return None
        if isinstance(source, EncodedSource):
            try:
                data = source.images[place].data()
            except (OSError, BadImage):
                return None
            return data, hashlib.sha256(data).hexdigest()
        (item,) = source.read(place, place + 1, known=())
        return None if item.image is None or item.content is None else (png(item.image), item.content)

    return original
