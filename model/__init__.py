"""Bytes in, class probabilities and 4096 floats out: preprocessing, the network, its training. Knows no index.

A Checkpoint is a trained network as a file; an Embedder is one at work on a device; embed_collection takes it through
a whole collection.
"""

from model.checkpoint import BadCheckpoint, Checkpoint
from model.checkpoint import load as load_checkpoint
from model.collection import Embeds, embed_collection
from model.data.folders import open_source
from model.data.originals import originals
from model.data.packed import BadDataset, PackedSet
from model.data.sources import Source
from model.device import NoSuchDevice
from model.embed import Embedder
from model.forward.engines import NoSuchEngine
from model.preprocess import BadImage, Recipe, TooManyPixels, stored_image
from model.thumbnails import thumbnail_type

__all__ = [
    "BadCheckpoint",
    "BadDataset",
    "BadImage",
    "Checkpoint",
    "Embedder",
    "Embeds",
    "NoSuchDevice",
    "NoSuchEngine",
    "PackedSet",
    "Recipe",
    "Source",
    "TooManyPixels",
    "embed_collection",
    "load_checkpoint",
    "open_source",
    "originals",
    "stored_image",
    "thumbnail_type",
]
