"""Features on disk and the nearest of them: 4096 numbers in, rows out. Knows no network.

FlatIndex answers; Bundle keeps what it answers from; exact.nearest is what a right answer is.
"""

from index.catalogue import Catalogue, Image, NoSuchImage, Skipped
from index.scan import TooLarge, gpus_of
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
    "Image",
    "Manifest",
    "NoSuchImage",
    "Searcher",
    "Skipped",
    "TooLarge",
    "gpus_of",
]
