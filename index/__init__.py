"""Features on disk, and exact search for the nearest of them. This package knows no network.

Bundle stores the features, FlatIndex searches them, and exact.nearest defines the right answer.
"""

from index.building import Building
from index.bundle_folder import Busy, DiskFull
from index.catalogue import Catalogue, Image, NoSuchImage, Skipped
from index.flat_index import FlatIndex, Searcher
from index.generation import BadBundle, Generation, Manifest
from index.layout import Layout, open_search
from index.scans.scan import TooLarge
from index.scans.shards import GpuFailed, gpus_of
from index.search import Answers, Search
from index.store import Bundle

__all__ = [
    "Answers",
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
    "Layout",
    "Manifest",
    "NoSuchImage",
    "Search",
    "Searcher",
    "Skipped",
    "TooLarge",
    "gpus_of",
    "open_search",
]
