"""What an index is made from: the network and the images that the user has named."""

from dataclasses import replace
from pathlib import Path

from model import Source, open_source
from model.data.class_names import people_names
from model.data.encoded import EncodedSource
from model.data.folders import part
from model.data.listing import counted
from model.progress import counting
from scripts.command import Refused

__all__ = ["collection", "published_network"]


def published_network(weights: str, folder: Path) -> Path:
    """Return a published network's checkpoint; it is downloaded and converted where it has to be."""
    from model.published.converted import checkpoint_file  # here, because it imports torch, which takes seconds

    return checkpoint_file(weights, folder, counting("MB"))


def collection(images: Path, class_names: Path | None, size: int) -> Source:
    """Open the images, and say what is ignored among them. A folder's classes get names for people.

    Raises BadDataset; Refused for names of the classes of a packed dataset.
    """
    source = open_source(images, size, report=counting("images"))
    if isinstance(source, EncodedSource):
        if part(images, "train") != images:
            print(f"{images}: its subfolder train alone, as a dataset's training images")
        if source.ignored:
            print(f"{images}: {counted(source.ignored)}")
        return replace(source, classes=people_names(source.classes, class_names, print))
    if class_names is not None:
        raise Refused(f"--class-names is for a folder of images: {images} was packed with its classes' names")
    return source
