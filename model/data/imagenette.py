"""Imagenette, ImageNet photographs of ten classes: downloaded or given, checked, packed.

    imagenette2-160/train/n01440764/n01440764_10026.JPEG ...    9,469 to train on
    imagenette2-160/val/n01440764/n01440764_1002.JPEG ...       3,925 to validate on

Of its three versions this is the smallest, whose images have 160 pixels on their shorter side: enough for 128.
"""

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import files
from model.data.class_names import people_names
from model.data.download import Digest, Published, download
from model.data.encoded import EncodedImage, EncodedSource
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.data.sources import Report, printable
from model.data.splits import divided, folder_splits, shuffled
from model.data.tars import archive_errors, ends, files_of

__all__ = ["PUBLISHED", "SIZE", "WNIDS", "fetch"]

WNIDS = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
ARCHIVE = "imagenette2-160.tgz"
PUBLISHED = Published(  # the MD5 that torchvision has for it
    (f"https://s3.amazonaws.com/fast-ai-imageclas/{ARCHIVE}",),
    Digest("md5", "e793b78cc4c9e9a4ccc0c1155377a412"),
    limit=1 << 27,  # it has 99 MB
)
SIZE = 128  # pixels on a side of a stored image, as preset `photo` takes them
SHARE = 0.1  # of the images is held out where there is no val
MAX_FILES = 100_000  # in an archive that is given
MAX_BYTES = 1 << 32  # that it may unpack to; the version with the largest images has 1.5 GB
BLOCK = 1 << 20  # bytes


def fetch(
    out: Path, source: Path | None, cache: Path, downloading: Report, packing: Report, published: Published = PUBLISHED
) -> PackedSet:
    """Return Imagenette packed at `out`, splits train and val. It is obtained and packed unless it is there already.

    source: an archive (tar or tar.gz), its unpacked folders, or a folder that holds one of these; without it the
    archive is downloaded to `cache`. Where the source has no val, a tenth of the images is held out. Raises BadDataset
    for a source that is something else or is damaged, and when `out` holds something else; DownloadFailed.
    """
    if source is None:
        if (out / "meta.json").exists():
            return _ours(PackedSet.open(out))
        source = cache / ARCHIVE
        download(published, source, by_hand=f"give {ARCHIVE} with --source", report=downloading)
    with _splits(_found(source)) as splits:
        return pack(out, splits, report=packing)


def _ours(packed: PackedSet) -> PackedSet:
    """Raise BadDataset for a dataset of something else, before anything is downloaded."""
    if (packed.classes, packed.size) != (people_names(WNIDS), SIZE):
        raise BadDataset(f"{packed.path}: holds a dataset of something else; remove it or choose another place")
    return packed


def _found(source: Path) -> Path:
    """The archive or the folder of class folders: `source`, or what in it is called imagenette... Raises BadDataset."""
    if source.is_file():
        return source
    for place in (source, *sorted(source.glob("imagenette*"))):
        if place.is_dir() and any((place / split / WNIDS[0]).is_dir() for split in ("train", ".")):
            return place
        if place.is_file() and place.suffix in (".tgz", ".gz", ".tar"):
            return place
    raise BadDataset(f"{source}: neither Imagenette's archive nor its folder train is there")


@contextmanager
def _splits(place: Path) -> Iterator[dict[str, EncodedSource]]:
    """The splits of an archive or a folder of class folders, to be read until the block ends. Raises BadDataset."""
    if place.is_dir():
        splits = folder_splits(place, SIZE, SHARE)
        if (classes := splits["train"].classes) != WNIDS:
            strange = sorted(set(classes) ^ set(WNIDS))
            raise BadDataset(f"{place}: not Imagenette's ten folders; {', '.join(strange[:3])} makes the difference")
        yield {name: _named(split) for name, split in splits.items()}
    else:
        with _uncompressed(place) as tar:
            train, val = _archived(place, tar)
            train, val = (train, val) if len(val) else divided(train, SHARE)
            yield {"train": shuffled(train), "val": val}


@contextmanager
def _uncompressed(archive: Path) -> Iterator[Path]:
    """The archive itself, or a temporary copy that is not compressed, so that images can be read from within it."""
    with archive_errors(archive), archive.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed:
        yield archive
        return
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "imagenette.tar"
        with archive_errors(archive), gzip.open(archive) as packed, tar.open("wb", buffering=0) as out:
            while block := packed.read(BLOCK):
                if out.tell() + len(block) > MAX_BYTES:
                    raise BadDataset(f"{archive}: unpacks to more than {MAX_BYTES:,} bytes: not Imagenette")
                with files.translated(tar, BadDataset, BadDataset):  # the disk of temporary files is full
                    files.write_all(out, block)
        yield tar


def _archived(archive: Path, tar: Path) -> tuple[EncodedSource, EncodedSource]:
    """Images of train and of val, each sorted by name. A member's path is only compared. Raises BadDataset."""
    train, val = list[EncodedImage](), list[EncodedImage]()
    with archive_errors(archive), tar.open("rb") as file:
        for number, member in enumerate(files_of(archive, file, 0, tar.stat().st_size), 1):
            if number > MAX_FILES:
                raise BadDataset(f"{archive}: more than {MAX_FILES:,} files: not Imagenette")
            split, wnid, name = ("", "", "", *PurePosixPath(member.name).parts)[-3:]
            if wnid in WNIDS and not name.startswith("."):
                image = (printable(f"{wnid}/{name}"), WNIDS.index(wnid), str(tar), member.offset_data, member.size)
                (val if split == "val" else train).append(EncodedImage(*image))
        is_whole = ends(file)
    if missing := set(WNIDS) - {image.name.partition("/")[0] for image in train}:
        raise BadDataset(f"{archive}: not Imagenette: no training images of {len(missing)} of its ten classes")
    if not is_whole:
        raise BadDataset(f"{archive}: without a tar's end; the download is not complete")
    train_source, val_source = (
        _named(EncodedSource(sorted(images, key=lambda image: image.name), WNIDS, SIZE)) for images in (train, val)
    )
    return train_source, val_source


def _named(source: EncodedSource) -> EncodedSource:
    return replace(source, classes=people_names(source.classes))
