"""Features on disk, and exact search for the nearest of them. This package knows no network.

Bundle stores the features, FlatIndex searches them, and exact.nearest defines the right answer.
"""

from index.catalogue import Catalogue, Image, NoSuchImage, Skipped
from index.scan import GpuFailed, TooLarge, gpus_of
from index.search import FlatIndex, Searcher
from index.store import BadBundle, Building, Bundle, Busy, DiskFull, Generation, Manifest

__all__ = [
    "BadBundle",
    "Building",
    "Bundle",
    "Busy",
    "Catalogue",
    "DiskFull",
    "FlatIndex",
    "Generation",
    "GpuFailed",
    "Image",
    "Manifest",
    "NoSuchImage",
    "Searcher",
    "Skipped",
    "TooLarge",
    "gpus_of",
]
