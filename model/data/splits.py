"""Which images train and which validate, when a dataset is packed and when it is opened.

A hash of an image's name decides, so that no list is needed and every machine divides alike.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.data.encoded import EncodedSource
from model.data.folders import encoded_source, part
from model.data.loader import Dataset, Subset
from model.data.packed import BadDataset, PackedSet, Split
from model.data.sources import Report

__all__ = ["VALIDATION", "divided", "folder_splits", "named_split", "shuffled", "training_and_validation"]

VALIDATION = ("validation", "val", "test")  # the first of these that the dataset has
SHARE = 20  # one row in so many is held out where there is no such split


def shuffled(source: EncodedSource) -> EncodedSource:
    """Return the same images in an order that does not depend on their classes.

    Training images are packed in this order, so that neighbouring rows, which are read together, mix all classes. The
    2012 code shuffled its list once, too.
    """
    return replace(source, images=sorted(source.images, key=lambda image: _draw("order", image.name)))


def divided(source: EncodedSource, fraction: float) -> tuple[EncodedSource, EncodedSource]:
    """Return training and validation images, about `fraction` of all in the latter.

    An image that is added moves no other between the two. Raises BadDataset unless 0 <= fraction < 1.
    """
    if not 0 <= fraction < 1:
        raise BadDataset(f"a validation fraction of {fraction}: at least 0 and below 1 is accepted")
    held = [_draw("validation", image.name) < fraction for image in source.images]
    train, validation = (
        [p for p, out in zip(source.images, held, strict=True) if out is side] for side in (False, True)
    )
    return replace(source, images=train), replace(source, images=validation, ignored={})


def folder_splits(path: Path, size: int, fraction: float, report: Report = lambda *_: None) -> dict[str, EncodedSource]:
    """Return the splits "train", shuffled, and "val" of a folder of class folders, or of its subfolders train and val.

    A list of images, and shards, will do in place of class folders.

    Without a subfolder val, `fraction` of the images are held out; "val" is absent when that leaves none. Raises
    BadDataset.
    """
    of_training = part(path, "train")
    train = encoded_source(of_training, size, report=report)
    if of_training != path and (path / "val").is_dir():
        return {"train": shuffled(train), "val": encoded_source(path / "val", size, train.classes, report)}
    train, validation = divided(train, fraction)
    if not len(train):
        raise BadDataset(f"{path}: too few images, all {len(validation)} are held out for validation")
    return {"train": shuffled(train)} | ({"val": validation} if len(validation) else {})


def training_and_validation(packed: PackedSet) -> tuple[Dataset, Dataset]:
    """Return the labelled rows to train on and those to validate on.

    Raises BadDataset for a dataset with fewer than two classes, without training images, or without labels.
    """
    if len(packed.classes) < 2:
        raise BadDataset(
            f"{packed.path}: a network needs two classes to tell apart, this dataset has {len(packed.classes)}"
        )
    train = packed.split("train")
    if not len(train):
        raise BadDataset(f"{packed.path}: there are no training images")
    if train.labels.min() < 0:
        unknown = int((train.labels < 0).sum())
        raise BadDataset(f"{packed.path}: {unknown} of {len(train)} training images have no label")
    for name in VALIDATION:
        if name in packed.splits:
            split = packed.split(name)
            known = np.flatnonzero(split.labels >= 0)
            if not len(known):
                raise BadDataset(f"{packed.path}: no image of split {name!r} has a label, so nothing can be measured")
            return train, Subset(split, known)
    return _held_out(train)


def named_split(packed: PackedSet, name: str) -> Dataset:
    """Return a split by name; "auto" is the one that training validates on. Raises BadDataset."""
    if name == "auto":
        return training_and_validation(packed)[1]
    return packed.split(name)


def _held_out(train: Split) -> tuple[Dataset, Dataset]:
    """Hold out the twentieth of the rows with the lowest draws, at least one and never all."""
    if len(train) < 2:
        raise BadDataset("one training image cannot be split into one to learn from and one to measure on")
    by_draw = np.argsort([_draw("validation", name) for name in train.names], kind="stable")
    held = max(1, len(train) // SHARE)
    return Subset(train, np.sort(by_draw[held:])), Subset(train, np.sort(by_draw[:held]))


def _draw(purpose: str, name: str) -> float:
    """A number from 0 to 1 that is a function of the image's name alone."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {name}".encode()).digest()[:8], "big") / 2**64
