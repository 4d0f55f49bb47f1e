"""The ILSVRC-2012 archives: images are read from within them, nothing is unpacked.

    train tar       n01440764.tar ... one tar a class, by WordNet id, each of JPEG files
    validation tar  ILSVRC2012_val_00000001.JPEG ...
    devkit tar.gz   */data/meta.mat: WordNet ids, ILSVRC ids, words
                    */data/ILSVRC2012_validation_ground_truth.txt: an ILSVRC id a line, in the order of the images

A class id here is a position in the sorted WordNet ids, as in torchvision and Caffe. The kit's own ids differ.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.data.class_names import class_names
from model.data.encoded import EncodedImage, EncodedSource
from model.data.matfile import read_mat
from model.data.packed import BadDataset
from model.data.sources import Report, printable
from model.data.tars import archive_errors, files_of, members

__all__ = ["Devkit", "ilsvrc_sources", "read_devkit"]

MEGABYTE = 1_000_000
MAX_BYTES = 1 << 26  # of one of the kit's files; the larger has 600 KB
NUMBER = re.compile(r"_(\d+)\.JPEG$", re.IGNORECASE)


@dataclass(frozen=True)
class Devkit:
    """The classes and the validation images' labels, from the development kit."""

    wnids: tuple[str, ...]  # WordNet ids, sorted: a class id is a position here
    names: tuple[str, ...]  # as `class_names` makes them
    truth: tuple[int, ...]  # class id of validation image 1, 2, ...


def ilsvrc_sources(
    train: Path, validation: Path, devkit: Path, size: int, report: Report = lambda *_: None
) -> dict[str, EncodedSource]:
    """Splits "train" and "val" of the archives, at S = `size`. Raises BadDataset for archives that are not those.

    All headers are read, 1.33 million of them in 145 GB; `report` counts the megabytes of each archive.
    """
    kit = read_devkit(devkit)
    return {
        "train": EncodedSource(_train_images(train, kit, report), kit.names, size),
        "val": EncodedSource(_validation_images(validation, kit, report), kit.names, size),
    }


def read_devkit(path: Path) -> Devkit:
    """Read the kit's archive. Raises BadDataset when a file is missing or does not fit the others."""
    files = _kit_files(path)
    synsets = read_mat(files["meta.mat"]).get("synsets")
    try:
        # The classes are the leaves; the kit also lists what lies above them in WordNet.
        leaves = [synset for synset in synsets or [] if not synset["num_children"].any()]
        by_ilsvrc = {int(synset["ILSVRC2012_ID"].item()): str(synset["WNID"]) for synset in leaves}
        words = {str(synset["WNID"]): str(synset["words"]) for synset in leaves}
        wnids = tuple(sorted(words))
        place = {wnid: label for label, wnid in enumerate(wnids)}
        truth = [place[by_ilsvrc[int(line)]] for line in files["ILSVRC2012_validation_ground_truth.txt"].split()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadDataset(f"{path}: its synsets and its ground truth do not fit together ({error!r})") from error
    return Devkit(wnids, class_names([(wnid, words[wnid]) for wnid in wnids]), tuple(truth))


def _kit_files(path: Path) -> dict[str, bytes]:
    wanted = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
    found = {}
    with archive_errors(path), tarfile.open(path) as tar:
        for member in members(tar):
            place = Path(member.name)
            if not (place.name in wanted and place.parent.name == "data" and member.size <= MAX_BYTES):
                continue
            if body := tar.extractfile(member):
                found[place.name] = body.read()
    if missing := [name for name in wanted if name not in found]:
        raise BadDataset(f"{path}: no data/{missing[0]} in it; the kit for tasks 1 and 2 is wanted")
    return found


def _train_images(path: Path, kit: Devkit, report: Report) -> list[EncodedImage]:
    labels = {wnid: label for label, wnid in enumerate(kit.wnids)}
    images = []
    with archive_errors(path), path.open("rb") as file:
        for inner in _reported(files_of(path, file, 0, path.stat().st_size), path, report):
            wnid = Path(inner.name).stem
            if wnid not in labels:
                raise BadDataset(f"{path}: {inner.name} is not the archive of a class of the kit")
            for member in files_of(path, file, inner.offset_data, inner.offset_data + inner.size):
                images.append(_encoded(path, member, f"{wnid}/{Path(member.name).name}", labels[wnid]))
    if missing := set(kit.wnids) - {image.name.split("/")[0] for image in images}:
        raise BadDataset(f"{path}: no images of {len(missing)} of the kit's classes, {min(missing)} for one")
    return images


def _validation_images(path: Path, kit: Devkit, report: Report) -> list[EncodedImage]:
    images = []
    with archive_errors(path), path.open("rb") as file:
        for member in _reported(files_of(path, file, 0, path.stat().st_size), path, report):
            name = Path(member.name).name
            number = int(found[1]) if (found := NUMBER.search(name)) else 0
            if not 1 <= number <= len(kit.truth):
                raise BadDataset(f"{path}: the kit has no ground truth for {name}")
            images.append(_encoded(path, member, name, kit.truth[number - 1]))
    if len(images) != len(kit.truth):
        raise BadDataset(f"{path}: {len(images)} images where the kit has the truth of {len(kit.truth)}")
    return sorted(images, key=lambda image: image.name)


def _reported(walked: Iterable[tarfile.TarInfo], path: Path, report: Report) -> Iterator[tarfile.TarInfo]:
    """Pass the members on, and report the megabytes that are behind, at most one call a megabyte."""
    reached, total = 0, path.stat().st_size // MEGABYTE
    for member in walked:
        yield member
        if reached < (now := (member.offset_data + member.size) // MEGABYTE) < total:
            reached = now
            report(path.name, now, total)
    if total:
        report(path.name, total, total)


def _encoded(path: Path, member: tarfile.TarInfo, name: str, label: int) -> EncodedImage:
    return EncodedImage(printable(name), label, str(path), member.offset_data, member.size)
