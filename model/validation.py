"""Which rows train and which validate: the packed set's own splits, or a part held out where it has but one."""

import numpy as np

from model.dataset import BadDataset, PackedSet
from model.feed import Labelled, Part

__all__ = ["HELD_OUT", "named_split", "training_and_validation"]

VALIDATION = ("validation", "val", "test")  # the first of these that the set has
HELD_OUT = "held-out"
SHARE = 20  # one row in so many is held out where there is no such split


def training_and_validation(packed: PackedSet) -> tuple[Labelled, Labelled]:
    """The labelled rows to learn from and those to measure on. Raises BadDataset for a set that can teach nothing."""
    if len(packed.classes) < 2:
        raise BadDataset(
            f"{packed.path}: a network needs two classes to tell apart, this set has {len(packed.classes)}"
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
            return train, Part(split, known)
    return _held_out(train)


def named_split(packed: PackedSet, name: str) -> Labelled:
    """A split by name; "auto" is what training validates on. Raises BadDataset."""
    if name in ("auto", HELD_OUT):
        return training_and_validation(packed)[1]
    return packed.split(name)


def _held_out(train: Labelled) -> tuple[Labelled, Labelled]:
    """A fixed twentieth of the rows, at least one and never all: the same for every run and for evaluate.py."""
    if len(train) < 2:
        raise BadDataset("one training image cannot be split into one to learn from and one to measure on")
    mixed = np.random.default_rng(0).permutation(len(train))
    held = max(1, len(train) // SHARE)
    return Part(train, np.sort(mixed[held:])), Part(train, np.sort(mixed[:held]))
