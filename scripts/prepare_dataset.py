"""Pack images for training: class folders, a list, tar shards, or the ILSVRC-2012 archives."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model.data.class_names import people_names
from model.data.encoded import EncodedSource
from model.data.ilsvrc import ilsvrc_sources
from model.data.listing import counted
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.splits import folder_splits, shuffled
from model.progress import counting
from scripts.command import run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Pack images for training: --images, or the three ILSVRC archives. After a stop, run it again: it continues."""

    images: Path | None = None
    """Folder of class folders, or one that holds such folders as train and val; or a list of labelled images (.csv,
    .parquet), or tar shards."""
    out: Path | None = None
    """Folder for the packed dataset; data/ and the images' folder's name if not given (data/ilsvrc2012)."""
    class_names: Path | None = None
    """Names of the class folders: a file with lines like Caffe's synset_words.txt, or "folder,name" (CSV). Without a
    name, a folder called by an id of ILSVRC-2012 (n01440764) has that class's first word (tench), another its own."""
    size: int = 256
    """Side of a stored image, pixels."""
    encoding: Literal["raw", "jpeg"] = "raw"
    """raw: memory-mapped, size x size x 3 bytes an image; jpeg: quality 95, about a sixth of that, slower to read."""
    validation: float = 0.1
    """Share of the images held out as the split val, where the folder has no val of its own."""
    ilsvrc_train: Path | None = None
    """ILSVRC2012_img_train.tar, which holds a tar for each class; it is not unpacked."""
    ilsvrc_validation: Path | None = None
    """ILSVRC2012_img_val.tar."""
    devkit: Path | None = None
    """ILSVRC2012_devkit_t12.tar.gz: the classes and the validation images' ground truth."""


def sources(config: Config) -> tuple[str, dict[str, EncodedSource]]:
    """Return the dataset's name and a source for each split. Raises BadDataset."""
    archives = (config.ilsvrc_train, config.ilsvrc_validation, config.devkit)
    if config.images is not None and archives == (None, None, None):
        splits = folder_splits(config.images, config.size, config.validation, counting("images"))
        names = people_names(splits["train"].classes, config.class_names, print)
        path = config.images.resolve()
        return path.stem if path.is_file() else path.name, {
            name: replace(split, classes=names) for name, split in splits.items()
        }
    train, validation, devkit = archives
    if config.images is not None or train is None or validation is None or devkit is None:
        raise BadDataset("give --images, or --ilsvrc-train, --ilsvrc-validation and --devkit together")
    if config.class_names is not None:
        raise BadDataset("--class-names is for --images: the archives' classes have their names in the devkit")
    splits = ilsvrc_sources(train, validation, devkit, config.size, counting("MB"))
    return "ilsvrc2012", {**splits, "train": shuffled(splits["train"])}


def job(config: Config) -> None:
    """Pack, then print what is there and what was left out."""
    if config.size < 1:
        raise BadDataset(f"a side of {config.size} pixels: at least 1 is accepted")
    name, splits = sources(config)
    for split, source in splits.items():
        if source.ignored:
            print(f"{split}: {counted(source.ignored)}")
    out = config.out or Path("data") / name
    packed = pack(out, splits, encoding=config.encoding, report=counting("images"))
    for part in map(packed.split, packed.splits):
        print(f"{part.folder}: {len(part):,} images, {len(part.skipped):,} left out")
        for skipped, reason in part.skipped[:10]:
            print(f"  {skipped}: {reason}")
    print(f"{out}: {packed.size} x {packed.size} pixels, {len(packed.classes)} classes, {packed.encoding}")


if __name__ == "__main__":
    run(Config, job)
