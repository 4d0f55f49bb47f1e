"""Turn a published AlexNet, by name or from its file, into a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import files
from model.checkpoint import save
from model.progress import counting
from model.published.homes import weights_file
from model.published.importing import Kind, imported
from scripts.command import Refused, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Turn a published AlexNet into a checkpoint, to serve, to evaluate or to fine-tune (train.py --init-from)."""

    weights: str
    """torchvision or bvlc, 244 MB each, which are downloaded; or a file: bvlc_alexnet.caffemodel, the ONNX zoo's
    bvlc_alexnet, torchvision's alexnet .pth."""
    out: Path
    """Checkpoint to write."""
    weights_folder: Path = Path("data/weights")
    """Where downloads are kept; a published file that is there already is used without the network."""
    kind: Kind = "auto"
    """What the file is; auto looks into it."""
    mean: Path | None = None
    """Caffe's mean image, .binaryproto or .npy, BGR; its mean colour if not given. Not for torchvision."""
    classes: Path | None = None
    """Packed dataset whose classes these are (to evaluate on it, or to fine-tune with fc8 kept), or a text file with a
    class name a line (synset_words.txt). If not given: the 1,000 of ILSVRC-2012 for the two published files, as
    torchvision or WordNet has them; "class 0", "class 1", ... for any other."""
    overwrite: bool = False
    """Replace OUT if it is there."""


def job(config: Config) -> None:
    """Read, convert and write it, then print what it is."""
    with files.translated(config.out, cannot=Refused, full=Refused):
        taken = config.out.is_dir() or (config.out.exists() and not config.overwrite)
    if taken:
        raise Refused(f"{config.out} is there already: --overwrite replaces a file, --out writes another")
    source = weights_file(config.weights, config.weights_folder, counting("MB"))
    checkpoint = imported(source, config.kind, config.mean, config.classes)
    with files.translated(config.out, cannot=Refused, full=Refused):
        save(config.out, checkpoint)
    count, table = sum(array.size for array in checkpoint.weights.values()), checkpoint.table
    print(f"{config.out}: table {table.name}, {len(checkpoint.classes)} classes, {count:,} parameters")
    mean = "its own constants" if table.name == "torchvision" else config.mean or "Caffe's mean colour (no --mean)"
    print(f"images: {checkpoint.recipe.stored} pixels stored, central {table.crop} used, mean: {mean}")


if __name__ == "__main__":
    run(Config, job)
