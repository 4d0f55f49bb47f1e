"""What a bundle's answers are worth and cost: accuracy, label agreement, exactness, time and memory."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from index import Bundle, Generation, Search, exact, gpus_of, open_search
from model import Embedder, NoSuchEngine, PackedSet, load_checkpoint
from model.data.class_names import people_names
from model.evaluation import Figure, Scores, Tally, check_size
from scripts.benchmarks.index_forms import in_numpy
from scripts.benchmarks.settings import Retrieval, check_positive
from scripts.benchmarks.timing import Timing, Work, in_turn, table, timed
from scripts.command import Refused

K = 6  # Figure 4 shows six
BLOCK = 500  # queries searched together
NO_CLASSES = "needs held-out labels of the network's classes"
NO_LABELS = "needs labels of the same classes, held-out and indexed"
NO_ENGINE = "needs both engines, and bfloat16 on the CPU where the index has it"


@dataclass(frozen=True)
class Count:
    """So many of so many."""

    hits: int
    of: int


@dataclass(frozen=True)
class Retrieved:
    """What was measured."""

    network: str  # device that embeds, engine and precision
    search: str  # devices that search, as in cuda:0, cuda:1
    indexed: int  # images
    held_out: int  # images
    top1: Figure | None  # accuracy, central view; None without labels of the network's classes
    top5: Figure | None
    agreement: Figure | None  # share of the six nearest that have the held-out image's label; None without labels
    exact: Count  # held-out images whose six neighbours equal brute force in float64
    either_engine: Count | None  # held-out images with the same six by the other engine; None without it
    themselves: Count  # indexed images that find themselves first, at distance 0
    embedded_per_s: float  # images, in batches
    searched_per_s: float  # queries, BLOCK at once
    embed_ms: tuple[float, float, float]  # one image: fastest, median, slowest
    search_ms: tuple[float, float, float]
    numpy_ms: tuple[float, float, float]  # the same search by float32 brute force in NumPy
    opening_s: float
    peak_gib: float  # memory of this process


def measure(config: Retrieval) -> Retrieved:
    """Measure all of it. Raises BadBundle, BadDataset, BadCheckpoint, NoSuchDevice, NoSuchEngine, Refused."""
    check_positive(config, "checked", "rounds")
    generation, packed = Bundle(config.bundle).current(), PackedSet.open(config.data)
    checkpoint = load_checkpoint(generation.checkpoint)
    check_size(str(config.bundle), checkpoint, packed)
    images, labels = held_out(packed, config.split)
    embedder = Embedder(checkpoint, config.device)
    gpus = gpus_of(embedder.device)
    searcher, opening = timed(lambda: open_search(generation, gpus=gpus))
    (probabilities, features), embedding = timed(lambda: embedder(images))
    found, searching = timed(lambda: nearest(searcher, features))
    scores = scores_of(probabilities, labels) if same_classes(checkpoint.classes, packed.classes) else None
    embed, search, numpy = single_requests(embedder, searcher, generation, images[:1], features[:1], config.rounds)
    return Retrieved(
        network=f"{embedder.device} ({embedder.engine}, {checkpoint.recipe.precision})",
        search=searcher.device,
        indexed=len(generation.ids),
        held_out=len(images),
        top1=scores.top1 if scores else None,
        top5=scores.top5 if scores else None,
        agreement=agreement(labels_of(generation, found, packed.classes), labels),
        exact=as_brute_force(generation, features[: config.checked], found[: config.checked]),
        either_engine=by_the_other_engine(embedder, searcher, images[: config.checked], found[: config.checked]),
        themselves=finding_themselves(generation, searcher, config.checked),
        embedded_per_s=len(images) / embedding,
        searched_per_s=len(images) / searching,
        embed_ms=embed.milliseconds,
        search_ms=search.milliseconds,
        numpy_ms=numpy.milliseconds,
        opening_s=opening,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def shown(results: Retrieved) -> str:
    """A table with one line for each figure."""
    r = results
    rows = [
        ["top-1 accuracy, central view", share(r.top1) if r.top1 else NO_CLASSES],
        ["top-5 accuracy, central view", share(r.top5) if r.top5 else NO_CLASSES],
        [f"label agreement of the {K} nearest", share(r.agreement) if r.agreement else NO_LABELS],
        [f"held-out images whose {K} equal brute force in float64", _count(r.exact)],
        [f"whose {K} are the same by the other engine", _count(r.either_engine) if r.either_engine else NO_ENGINE],
        ["indexed images that find themselves first, at 0", _count(r.themselves)],
        ["embedding, in batches", f"{r.embedded_per_s:,.0f} img/s"],
        [f"search, {BLOCK} queries at once", f"{r.searched_per_s:,.0f} queries/s"],
        ["embedding one image", _range(r.embed_ms)],
        ["searching for one image", _range(r.search_ms)],
        ["the same by float32 brute force in NumPy", _range(r.numpy_ms)],
        ["opening the index", f"{r.opening_s:.2f} s"],
        ["peak memory of this process", f"{r.peak_gib:.2f} GiB"],
    ]
    head = f"{r.indexed:,} images indexed, {r.held_out:,} held out; network on {r.network}, search on {r.search}"
    return f"{head}\n{table(['figure', 'value'], rows)}"


def nearest(searcher: Search, features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ids of the K nearest of each query, (n, K), searched for BLOCK at once."""
    return np.concatenate([searcher.search(features[i : i + BLOCK], K).ids for i in range(0, len(features), BLOCK)])


def scores_of(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores | None:
    """Accuracy of predictions (n, classes) for labels (n,), -1 unknown. None where no label is known."""
    known, tally = labels >= 0, Tally()
    tally.add(torch.from_numpy(probabilities[known]), torch.from_numpy(labels[known]))
    return tally.scores() if known.any() else None


def same_classes(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether these are the same classes in the same order, called by their ids of ILSVRC-2012 or by words."""
    return people_names(one) == people_names(other)


def labels_of(generation: Generation, ids: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """Class ids in `classes` of indexed images, -1 without a label or of another class; any shape of ids.

    The collection may have other classes than the held-out images, so their names decide.
    """
    numbers = {name: number for number, name in enumerate(people_names(classes))}
    indexed = people_names(generation.manifest.classes)
    renumbered = np.array([*(numbers.get(name, -1) for name in indexed), -1])  # [-1]: no label
    return renumbered[generation.catalogue.labels()[np.searchsorted(generation.ids, ids)]]


def agreement(neighbours: NDArray[np.int64], labels: NDArray[np.int64]) -> Figure | None:
    """Mean share of each image's neighbours (n, k) that have its label (n,), with a normal 95 % interval.

    -1 is unknown. None where fewer than two images, or none of their neighbours, have a label.
    """
    known = labels >= 0
    if known.sum() < 2 or (neighbours[known] < 0).all():
        return None
    return mean_of((neighbours[known] == labels[known, None]).mean(axis=1))


def mean_of(shares: NDArray[np.float64]) -> Figure:
    """Mean of the images' shares (n,), n >= 2, with a normal 95 % interval."""
    mean, reach = float(shares.mean()), 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5
    return Figure(mean, mean - reach, mean + reach)


def as_brute_force(generation: Generation, features: NDArray[np.float32], found: NDArray[np.int64]) -> Count:
    """Rows of `found` (n, K) that hold the ids which the definition gives for `features` (n, F)."""
    _, expected = exact.nearest(generation.all_rows(), generation.ids, features, K)
    return Count(int((found == expected).all(axis=1).sum()), len(expected))


def by_the_other_engine(
    embedder: Embedder, searcher: Search, images: NDArray[np.uint8], found: NDArray[np.int64]
) -> Count | None:
    """Images (n, S, S, 3) whose neighbours, when OpenVINO embeds them in torch's place or the reverse, are `found`.

    None where the other engine cannot run the network here.
    """
    try:
        other = Embedder(embedder.checkpoint, "cpu", "torch" if embedder.engine == "openvino" else "openvino")
    except NoSuchEngine:
        return None
    same = (nearest(searcher, other(images)[1]) == found).all(axis=1)
    return Count(int(same.sum()), len(same))


def finding_themselves(generation: Generation, searcher: Search, checked: int) -> Count:
    """Indexed images, drawn at random, that are their own nearest neighbour at distance 0."""
    count = min(checked, len(generation.ids))
    rows = np.sort(np.random.default_rng(0).choice(len(generation.ids), count, replace=False))
    found = searcher.search(generation.rows(generation.ids[rows]), 1)
    first = (found.ids[:, 0] == generation.ids[rows]) & (found.distances[:, 0] == 0)
    return Count(int(first.sum()), count)


def single_requests(
    embedder: Embedder,
    searcher: Search,
    generation: Generation,
    image: NDArray[np.uint8],
    query: NDArray[np.float32],
    rounds: int,
) -> tuple[Timing, Timing, Timing]:
    """Time embedding one image, searching for it, and the same search in NumPy.

    They are timed one after the other, not in turn, because the idle threads of one library would slow the next.
    """
    rows = generation.all_rows()
    lengths = np.einsum("nd,nd->n", rows, rows)  # without a copy of the features
    requests: list[Work] = [
        lambda: len(embedder(image)[1]),
        lambda: len(searcher.search(query, K).ids),
        lambda: len(in_numpy(rows, lengths, query, K)),
    ]
    embed, search, numpy = (in_turn({"": request}, rounds, warm_up=3)[""] for request in requests)
    return embed, search, numpy


def held_out(packed: PackedSet, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images (n, S, S, 3) and labels (n,) of a split. Raises Refused for one that is too small to measure on."""
    split = packed.split(name)
    if len(split) < 2:
        raise Refused(f"{packed.path}: split {name!r} has {len(split)} images, at least two are needed")
    return split.images(slice(0, len(split))), np.array(split.labels)


def _count(count: Count) -> str:
    return f"{count.hits} of {count.of}"


def share(figure: Figure) -> str:
    return f"{figure.value:.2%} (95 %: {figure.low:.2%} to {figure.high:.2%})"


def _range(milliseconds: tuple[float, float, float]) -> str:
    fastest, median, slowest = milliseconds
    return f"{median:.1f} ms ({fastest:.1f}-{slowest:.1f})"
