"""What bfloat16 costs and gains where neighbours are found: the same network, collection and queries, twice."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from index import flat_search, gpus_of
from model import Checkpoint, Embedder, PackedSet, load_checkpoint
from model.evaluation import Figure, check_size
from model.preprocess import EmbeddingPrecision
from scripts.benchmarks.retrieval import K, agreement, held_out, mean_of, nearest, same_classes, scores_of, share
from scripts.benchmarks.settings import Precision
from scripts.benchmarks.timing import table, timed

BLOCK = 2048  # images embedded in one precision, then in the other
PRECISIONS: tuple[EmbeddingPrecision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Embedded:
    """One precision's figures."""

    precision: EmbeddingPrecision
    network: str  # device and engine that embed
    indexed: int  # images of the split train
    held_out: int  # images whose neighbours are searched for
    images_per_s: float  # embedding the indexed images
    recall: Figure  # share of the six nearest in float32 that are among the six nearest
    agreement: Figure | None  # share of the six nearest that have the held-out image's label; None without labels
    top1: Figure | None  # accuracy, central view; None without labels of the network's classes


def measure(config: Precision) -> list[Embedded]:
    """Embed, search and compare. Raises BadDataset, BadCheckpoint, NoSuchDevice, NoSuchEngine, Refused."""
    packed, checkpoint = PackedSet.open(config.data), load_checkpoint(config.checkpoint)
    check_size(str(config.checkpoint), checkpoint, packed)
    images, labels = held_out(packed, config.split)
    embedders = [Embedder(in_precision(checkpoint, precision), config.device) for precision in PRECISIONS]
    seconds, stored = embedded_in_turn(embedders, packed)
    trained_on = np.array(packed.split("train").labels)
    figures: list[Embedded] = []
    reference: NDArray[np.int64] | None = None
    for precision, embedder, features, taken in zip(PRECISIONS, embedders, stored, seconds, strict=True):
        probabilities, queries = embedder(images)
        index = flat_search(features, np.arange(len(features)), gpus=gpus_of(embedder.device))
        found = nearest(index, queries)
        reference = found if reference is None else reference
        scores = scores_of(probabilities, labels) if same_classes(checkpoint.classes, packed.classes) else None
        figures.append(
            Embedded(
                precision=precision,
                network=f"{embedder.device} ({embedder.engine})",
                indexed=len(features),
                held_out=len(images),
                images_per_s=len(features) / taken,
                recall=recall(found, reference),
                agreement=agreement(trained_on[found], labels),
                top1=scores.top1 if scores else None,
            )
        )
    return figures


def in_precision(checkpoint: Checkpoint, precision: EmbeddingPrecision) -> Checkpoint:
    """The same network, embedding in this precision."""
    return replace(checkpoint, recipe=replace(checkpoint.recipe, precision=precision))


def embedded_in_turn(embedders: list[Embedder], packed: PackedSet) -> tuple[list[float], list[NDArray[np.float32]]]:
    """Seconds and features (n, F) of each embedder for the split train, block by block in turn."""
    split = packed.split("train")
    features = [np.empty((len(split), embedder.width), np.float32) for embedder in embedders]
    seconds = [0.0 for _ in embedders]
    for embedder in embedders:
        embedder(split.images(slice(0, BLOCK)))  # kernels are made in the first pass
    for start in range(0, len(split), BLOCK):
        rows = slice(start, min(start + BLOCK, len(split)))
        images = split.images(rows)
        for number, embedder in enumerate(embedders):
            (_, features[number][rows]), taken = timed(partial(embedder, images))
            seconds[number] += taken
    return seconds, features


def recall(found: NDArray[np.int64], reference: NDArray[np.int64]) -> Figure:
    """Mean share of each row of `reference` (n, k) that the row of `found` (n, k) has, in any order."""
    hits = (found[:, :, None] == reference[:, None, :]).any(axis=1)
    return mean_of(hits.mean(axis=1))


def shown(figures: list[Embedded]) -> str:
    """A table with one column for each precision."""
    rows = [
        [f"recall@{K} of float32's neighbours", *(share(f.recall) for f in figures)],
        [f"label agreement of the {K} nearest", *(share(f.agreement) if f.agreement else "-" for f in figures)],
        ["top-1 accuracy, central view", *(share(f.top1) if f.top1 else "-" for f in figures)],
        ["embedding, in batches", *(f"{f.images_per_s:,.0f} img/s" for f in figures)],
    ]
    first = figures[0]
    head = f"{first.indexed:,} images indexed, {first.held_out:,} held out; network on {first.network}"
    return f"{head}\n{table(['figure', *(f.precision for f in figures)], rows)}"
