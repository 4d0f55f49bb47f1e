"""Which pictures are for training and which for validation, and in what order they are packed.

Both follow from a hash of each picture's name alone: no list to keep, the same on every machine, and a picture that is
added moves no other between the two.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from model.dataset import BadDataset
from model.sources import Picture, PictureSource, folder_source

__all__ = ["divided", "folder_splits", "shuffled"]


def shuffled(source: PictureSource) -> PictureSource:
    """The same pictures in an order that says nothing about their classes.

    A training set is packed like this once, so that neighbouring rows, which are read together, mix all classes (the
    2012 code shuffled its list once, too).
    """
    return replace(source, pictures=sorted(source.pictures, key=lambda picture: _draw("order", picture)))


def divided(source: PictureSource, fraction: float) -> tuple[PictureSource, PictureSource]:
    """Training and validation pictures, about `fraction` of them in the latter, 0 <= it < 1, else BadDataset."""
    if not 0 <= fraction < 1:
        raise BadDataset(f"a validation fraction of {fraction}: at least 0 and below 1 is accepted")
    limit = int(fraction * 2**64)
    held = [int.from_bytes(_draw("validation", picture)[:8], "big") < limit for picture in source.pictures]
    train, validation = (
        [p for p, out in zip(source.pictures, held, strict=True) if out is side] for side in (False, True)
    )
    return replace(source, pictures=train), replace(source, pictures=validation)


def folder_splits(path: Path, size: int, fraction: float) -> dict[str, PictureSource]:
    """Splits "train", shuffled, and "val" of a folder of class folders, or of its subfolders train and val.

    Without a subfolder val, `fraction` of the pictures are held out; "val" is absent when that leaves none. Raises
    BadDataset.
    """
    given = path / "train"
    train = folder_source(given if given.is_dir() else path, size)
    if given.is_dir() and (path / "val").is_dir():
        return {"train": shuffled(train), "val": folder_source(path / "val", size, train.classes)}
    train, validation = divided(train, fraction)
    return {"train": shuffled(train)} | ({"val": validation} if len(validation) else {})


def _draw(purpose: str, picture: Picture) -> bytes:
    return hashlib.sha256(f"{purpose} {picture.name}".encode()).digest()
