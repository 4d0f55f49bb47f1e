"""Read the stored images of a packed split by row, from pixels or from JPEG files."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.mapped import BadDataset
from model.data.threads import on_all_cores
from model.preprocess import BadImage, stored_image

__all__ = ["JpegPixels", "Pixels", "RawPixels", "Rows"]

Rows = slice | NDArray[np.int64]


class Pixels(Protocol):
    """n stored images, read by row."""

    def read(self, rows: Rows, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Return a copy of the rows, uint8 (b, S, S, 3), in `out` where it is given."""


@dataclass(frozen=True)
class RawPixels:
    """Memory-mapped pixels: 200 KB an image at S = 256."""

    images: NDArray[np.uint8]  # (n, S, S, 3)

    def read(self, rows: Rows, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Read by copying; a reused `out` saves the page faults of new memory."""
        if out is None:
            return np.array(self.images[rows])
        if not isinstance(rows, slice) and len(rows) and 0 <= rows.min() <= rows.max() < len(self.images):
            _check_buffer(out, (len(rows), *self.images.shape[1:]))
            # One copy where indexing makes two. "clip", as take would buffer to be able to raise.
            return np.take(self.images, rows, axis=0, out=out, mode="clip")
        wanted = self.images[rows]
        _check_buffer(out, wanted.shape)
        np.copyto(out, wanted)
        return out


@dataclass(frozen=True)
class JpegPixels:
    """JPEG files end to end, about a sixth of the size, decoded on all cores."""

    data: NDArray[np.uint8]  # (bytes,)
    offsets: NDArray[np.int64]  # (n + 1,)
    size: int

    def read(self, rows: Rows, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Read by decoding. Raises BadDataset for bytes that are no JPEG file any more."""
        wanted = np.arange(len(self.offsets) - 1)[rows]
        shape = (len(wanted), self.size, self.size, 3)
        images = np.empty(shape, np.uint8) if out is None else out
        _check_buffer(images, shape)

        def decode(place: int) -> None:
            images[place] = self._image(int(wanted[place]))

        on_all_cores(decode, range(len(wanted)))
        return images

    def _image(self, row: int) -> NDArray[np.uint8]:
        try:
            return stored_image(self.data[self.offsets[row] : self.offsets[row + 1]].tobytes(), self.size)
        except BadImage as error:
            raise BadDataset(f"row {row} of the packed dataset is damaged: {error}; pack it again") from error


def _check_buffer(out: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if out.shape != shape or out.dtype != np.uint8:
        raise ValueError(f"a buffer of {out.dtype} {out.shape} for images of uint8 {shape}")
