"""The labels of a collection's images: which there are, and which images have each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Labels", "NoSuchLabel"]

SHOWN = 5  # labels that an error names


class NoSuchLabel(LookupError):
    """No image of the collection has this label; the message names some that it has."""

    def __init__(self, label: str, names: Sequence[str]) -> None:
        shown = ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
        known = f"accepted: {shown}" if names else "no image has one"
        super().__init__(f"no image has the label {label[:100]!r}; {known}")


class Labels:
    """Labels by name, each with its images. n images take 8 n bytes."""

    def __init__(self, classes: Sequence[str], of_images: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        """classes: the name of each class id; two may have one name, which is then one label.

        of_images (n,): class ids of the images `ids` (n,), ascending; -1 is no label.
        """
        names = sorted(set(classes))
        place = {name: number for number, name in enumerate(names)}
        places = np.array([place[name] for name in classes] + [len(names)], np.int64)[of_images]
        order = np.argsort(places, kind="stable")
        edges = np.searchsorted(places[order], np.arange(len(names) + 1))
        images = np.split(ids[order], edges)[1:]  # before the first edge there is none; after the last, those without
        self._images = {name: of_one for name, of_one in zip(names, images, strict=False) if len(of_one)}
        self.names = tuple(self._images)  # in the order of their names
        self.unlabelled = int(np.count_nonzero(of_images < 0))  # images without a label

    def images(self, label: str) -> NDArray[np.int64]:
        """Return the ids (m,) of the images that have this label, ascending, m >= 1. Raises NoSuchLabel."""
        found = self._images.get(label)
        if found is None:
            raise NoSuchLabel(label, self.names)
        return found
