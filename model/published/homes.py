"""Where the two published AlexNets come from: their files by name, downloaded once, used again without the network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from model.data.class_names import class_names, ilsvrc_synsets
from model.data.download import Digest, Published, download
from model.data.sources import Report
from model.published.tables import BadWeights

__all__ = ["HOMES", "Home", "weights_file"]

MAX_BYTES = 1 << 28  # both files have 244 MB


@dataclass(frozen=True)
class Home:
    """A published network's file and classes."""

    file: str  # its name
    published: Published
    classes: tuple[str, ...]  # in the order of its outputs


def _torchvision() -> Home:
    """AlexNet_Weights.IMAGENET1K_V1: address and classes; the file's name ends with the first digits of its SHA-256."""
    from torchvision.models import AlexNet_Weights  # here, because importing it takes seconds

    weights = AlexNet_Weights.IMAGENET1K_V1
    file = Path(urlsplit(weights.url).path)
    digest = Digest("sha256", file.stem.rpartition("-")[2])
    return Home(file.name, Published((weights.url,), digest, MAX_BYTES), tuple(weights.meta["categories"]))


def _bvlc() -> Home:
    """Address and SHA-1 from models/bvlc_alexnet/readme.md of BVLC/caffe; classes in the order of synset_words.txt."""
    url = "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel"
    digest = Digest("sha1", "9116a64c0fbe4459d18f4bb6b56d647b63920377")
    return Home("bvlc_alexnet.caffemodel", Published((url,), digest, MAX_BYTES), class_names(ilsvrc_synsets()))


HOMES: dict[str, Callable[[], Home]] = {"torchvision": _torchvision, "bvlc": _bvlc}


def weights_file(weights: str, folder: Path, report: Report = lambda *_: None) -> Path:
    """Return the file of a network that is named in HOMES, or the file with the path `weights`.

    A named one is in `folder` already, with its published hash, or is downloaded to it. report: called with the file's
    name and megabytes. Raises BadWeights for what is neither, DownloadFailed.
    """
    if weights not in HOMES:
        if not Path(weights).is_file():
            raise BadWeights(f"{weights}: no such file, and none of the names {', '.join(HOMES)}")
        return Path(weights)
    home = HOMES[weights]()
    by_hand = f"give the file as --weights PATH, or put it into {folder}"
    download(home.published, folder / home.file, by_hand=by_hand, report=report)
    return folder / home.file
