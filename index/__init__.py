"""Features on disk, and exact search for the nearest of them. This package knows no network.

Bundle stores the features, FlatIndex searches them, and exact.nearest defines the right answer.
"""

from index.building import Building
from index.bundle_folder import Busy, DiskFull
from index.catalogue import Catalogue, Image, NoSuchImage, Skipped
from index.generation import BadBundle, Generation, Manifest
from index.scan import GpuFailed, TooLarge, gpus_of
from index.search import FlatIndex, Searcher
from index.store import Bundle

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
