"""A published network as a checkpoint file beside its source, converted once."""

import hashlib
from pathlib import Path

import files
from model.checkpoint import BadCheckpoint, load, save
from model.data.sources import Report
from model.provenance import commit
from model.published.homes import HOMES, weights_file
from model.published.importing import imported
from model.published.tables import BadWeights

__all__ = ["checkpoint_file"]


def checkpoint_file(weights: str, folder: Path, report: Report = lambda *_: None) -> Path:
    """Return the checkpoint of a published network: "torchvision", "bvlc", or the path of a file that holds one.

    The checkpoint is written into `folder`, where named networks are downloaded to, and used again as long as the
    published file and this code are the same; where this code's commit is not known (an image), it is made again each
    time. report: called with a download's file name and megabytes. Raises DownloadFailed, and BadWeights for a file
    that is no such network, or when the checkpoint cannot be written.
    """
    source = weights_file(weights, folder, report)
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(f"{source}: cannot be read: {error.strerror}") from error
    out = folder / f"{weights if weights in HOMES else f'{source.stem}-{digest[:8]}'}.safetensors"
    with files.translated(out, cannot=BadWeights, full=BadWeights):
        if not _is_of(out, digest):
            save(out, imported(source))
    return out


def _is_of(file: Path, digest: str) -> bool:
    """Return whether the file is a checkpoint that this code has made of the published file with that SHA-256."""
    code = commit()
    if code is None or not file.exists():
        return False
    try:
        made = load(file).provenance
    except BadCheckpoint:
        return False
    return (made.get("sha256"), made.get("commit")) == (digest, code)
