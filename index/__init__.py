"""Features on disk, and exact search for the nearest of them. This package knows no network.

Bundle stores the features, open_search opens their search, and exact.nearest defines the right answer.
"""

from index.building import Building
from index.bundle_folder import Busy, DiskFull
from index.canaries import Canary, canaries_of, keep_canaries
from index.catalogue import Catalogue, Image, NoSuchImage, Skipped
from index.changes import Changes
from index.costs import needed as search_bytes
from index.generation import Generation
from index.labels import Labels, NoSuchLabel
from index.layout import Layout, flat_search, open_search
from index.manifest import BadBundle, DamagedPart, Manifest
from index.quality import measure_again
from index.scans.scan import TooLarge
from index.scans.shards import GpuFailed, gpus_of
from index.search import Answers, Search
from index.segments import Segment
from index.store import Bundle, Published

__all__ = [
    "Answers",
    "BadBundle",
    "Building",
    "Bundle",
    "Busy",
    "Canary",
    "Catalogue",
    "Changes",
    "DamagedPart",
    "DiskFull",
    "Generation",
    "GpuFailed",
    "Image",
    "Labels",
    "Layout",
    "Manifest",
    "NoSuchImage",
    "NoSuchLabel",
    "Published",
    "Search",
    "Segment",
    "Skipped",
    "TooLarge",
    "canaries_of",
    "flat_search",
    "gpus_of",
    "keep_canaries",
    "measure_again",
    "open_search",
    "search_bytes",
]
