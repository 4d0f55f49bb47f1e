"""Turn a published AlexNet (BVLC's caffemodel or ONNX, torchvision's state dict) into a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import files
from model.checkpoint import save
from model.published.importing import Kind, imported
from scripts.command import Refused, run


@dataclass(frozen=True, kw_only=True)
class Config:
    """Turn a published AlexNet into a checkpoint, to serve, to evaluate or to fine-tune (train.py --init-from)."""

    source: Path
    """bvlc_alexnet.caffemodel, the ONNX zoo's bvlc_alexnet, or torchvision's alexnet .pth."""
    out: Path
    """Checkpoint to write."""
    kind: Kind = "auto"
    """What the source is; auto looks into it."""
    mean: Path | None = None
    """Caffe's mean image, .binaryproto or .npy, BGR; its mean colour if not given. Not for torchvision."""
    classes: Path | None = None
    """Packed dataset whose classes these are (to evaluate on it, or to fine-tune with fc8 kept), or a text file with a
    class name a line (synset_words.txt); "class 0", "class 1", ... if not given."""
    overwrite: bool = False
    """Replace OUT if it is there."""


def job(config: Config) -> None:
    """Read, convert and write it, then print what it is."""
    with files.translated(config.out, cannot=Refused, full=Refused):
        taken = config.out.is_dir() or (config.out.exists() and not config.overwrite)
    if taken:
        raise Refused(f"{config.out} is there already: --overwrite replaces a file, --out writes another")
    checkpoint = imported(config.source, config.kind, config.mean, config.classes)
    with files.translated(config.out, cannot=Refused, full=Refused):
        save(config.out, checkpoint)
    count, table = sum(array.size for array in checkpoint.weights.values()), checkpoint.table
    print(f"{config.out}: table {table.name}, {len(checkpoint.classes)} classes, {count:,} parameters")
    mean = "its own constants" if table.name == "torchvision" else config.mean or "Caffe's mean colour (no --mean)"
    print(f"images: {checkpoint.recipe.stored} pixels stored, central {table.crop} used, mean: {mean}")


if __name__ == "__main__":
    run(Config, job)
