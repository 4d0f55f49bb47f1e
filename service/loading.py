"""The engine of a bundle's generation: opened alone, or beside one in use, whose network it shares where it can."""

import logging

from index import Bundle, Generation, gpus_of, open_search, search_bytes
from model import Checkpoint, Embedder, load_checkpoint
from service.background import one_blas_thread
from service.batcher import sizes
from service.engine import SHORT, Engine
from service.settings import Settings

__all__ = ["Mismatch", "load_engine", "needed", "open_engine"]

IDS = 16  # bytes of each row, for its image id where it is kept twice
NETWORK = 3  # times the checkpoint's bytes: as it is read, and as the engine keeps it


class Mismatch(ValueError):
    """The checkpoint did not make the index; the message says which part differs."""


def load_engine(settings: Settings) -> Engine:
    """Open the bundle's current generation, as `open_engine` does. Raises BadBundle, too, where there is none."""
    one_blas_thread()
    return open_engine(Bundle(settings.bundle).current(), settings)


def open_engine(generation: Generation, settings: Settings, beside: Engine | None = None) -> Engine:
    """Make an engine of an opened generation, and answer one question to warm it up. After an error, it is closed.

    beside: one in use; its network is taken, too, where the other generation has the same checkpoint. Of the collection
    only the image ids are read, unless settings.verify asks for all. Raises BadBundle, BadCheckpoint, NoSuchDevice,
    NoSuchEngine, GpuFailed, TooLarge for features that float16 cannot search, and Mismatch when the checkpoint did not
    make the index.
    """
    try:
        if settings.verify:
            generation.verify()
        embedder = _network(generation, settings, beside)
        gpus = gpus_of(embedder.device)
        if embedder.device != "cpu" and not gpus:
            logging.getLogger(__name__).warning("FAISS cannot use %s here: the CPU searches", embedder.device)
        search = open_search(generation, gpus=gpus, float16=settings.float16)
        engine = Engine(embedder, generation, search, max_pixels=settings.max_pixels)
        in_use = beside is not None and embedder is beside.embedder
        engine.warm_up(() if in_use else sizes(settings.max_batch))
    except BaseException:
        generation.close()
        raise
    return engine


def needed(generation: Generation, settings: Settings, beside: Engine) -> int:
    """Return about how many bytes of memory a generation needs beside an engine in use, with which it shares files."""
    manifest, there = generation.manifest, beside.manifest.parts
    own = [
        len(segment.ids)
        for segment in generation.segments
        if there.get(name := f"segments/{segment.name}/features.npy") != manifest.parts[name]
    ]
    rows = sum(search_bytes(count, manifest.width, generation.layout) for count in own)
    copy = 2 * manifest.rows * manifest.width if settings.float16 else 0
    network = 0 if _is_shared(generation, beside) else NETWORK * generation.checkpoint.stat().st_size
    return rows + IDS * manifest.rows + copy + network


def _is_shared(generation: Generation, beside: Engine) -> bool:
    name = generation.checkpoint.name
    return generation.manifest.parts[name] == beside.manifest.parts[name]


def _network(generation: Generation, settings: Settings, beside: Engine | None) -> Embedder:
    if beside is not None and _is_shared(generation, beside):
        _check_pair(beside.checkpoint, generation)
        return beside.embedder
    checkpoint = load_checkpoint(generation.checkpoint)
    _check_pair(checkpoint, generation)
    return Embedder(checkpoint, settings.device, settings.engine)


def _check_pair(checkpoint: Checkpoint, generation: Generation) -> None:
    manifest, of_network = generation.manifest, checkpoint.fingerprints()
    differ = [
        f"{part} {manifest.inputs.get(part, 'unknown')[:SHORT]} in the index, {fingerprint[:SHORT]} in the checkpoint"
        for part, fingerprint in of_network.items()
        if manifest.inputs.get(part) != fingerprint
    ]
    if manifest.width != checkpoint.table.width:
        differ.append(
            f"embeddings of {manifest.width} numbers in the index, {checkpoint.table.width} in the checkpoint"
        )
    if differ:
        raise Mismatch(
            f"{generation.path}: the index was not made by the checkpoint beside it: {'; '.join(differ)}; "
            "build the index again with scripts/build_index.py"
        )
    if not manifest.rows:
        raise Mismatch(f"{generation.path}: the index holds no image")
