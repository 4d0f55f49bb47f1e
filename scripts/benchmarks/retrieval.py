"""What a bundle's answers are worth and cost: accuracy, label agreement, exactness, time and memory."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from index import exact, gpus_of
from index.search import FlatIndex
from index.store import Bundle, Generation
from model import checkpoint
from model.data.packed import PackedSet
from model.embed import Embedder
from model.evaluation import Figure, Scores, Tally
from scripts.benchmarks.timing import conditions, in_turn, table

K = 6  # Figure 4 shows six
BLOCK = 500  # queries searched together


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Measure a bundle on held-out images."""

    bundle: Path = Path("bundles/cifar10")
    data: Path = Path("data/cifar10")  # packed set with the held-out images
    split: str = "test"  # which of its splits they are
    device: str = "auto"
    checked: int = 200  # held-out images whose six neighbours are compared with brute force in NumPy
    rounds: int = 20  # timed single requests


def measure(config: Retrieval) -> None:
    """Print a table of figures with their conditions."""
    generation, packed = Bundle(config.bundle).current(), PackedSet.open(config.data)
    embedder = Embedder(checkpoint.load(generation.checkpoint), config.device)
    begun = time.perf_counter()
    searcher = FlatIndex(generation.features, generation.ids, gpus=gpus_of(str(embedder.device)))
    opened = time.perf_counter() - begun
    held_out = packed.split(config.split)
    begun = time.perf_counter()
    probabilities, features = embedder(held_out.images(slice(0, len(held_out))))
    embedding = len(held_out) / (time.perf_counter() - begun)
    begun = time.perf_counter()
    found = np.concatenate([searcher.search(features[i : i + BLOCK], K)[1] for i in range(0, len(features), BLOCK)])
    searching = len(features) / (time.perf_counter() - begun)
    scores = _scores(probabilities, held_out.labels)
    labels = _labels(generation, packed)
    agreement = (labels[found] == held_out.labels[:, None]).mean(axis=1)
    image, lengths = held_out.images(slice(0, 1)), np.square(generation.features).sum(axis=1)
    requests: dict[str, Callable[[], object]] = {
        "embed": lambda: embedder(image),
        "search": lambda: searcher.search(features[:1], K),
        "numpy": lambda: _numpy(generation.features, lengths, features[0]),
    }
    # One after the other, not in turn: each library's idle threads would spin in the way of the next one's.
    single = {name: in_turn({name: request}, config.rounds, warm_up=3)[name] for name, request in requests.items()}
    rows = [
        ["top-1 accuracy, central view", _share(scores.top1)],
        ["top-5 accuracy, central view", _share(scores.top5)],
        [f"label agreement of the {K} nearest", _share(_mean(agreement))],
        [f"held-out images whose {K} equal NumPy's brute force", _exact(generation, features, found, config.checked)],
        ["indexed images that find themselves first, at 0", _themselves(generation, searcher, config.checked)],
        ["embedding, in batches", f"{embedding:,.0f} img/s"],
        [f"search, {BLOCK} queries at once", f"{searching:,.0f} queries/s"],
        ["embedding one image", f"{single['embed'].median * 1e3:.1f} ms ({single['embed'].spread})"],
        ["searching for one image", f"{single['search'].median * 1e3:.1f} ms ({single['search'].spread})"],
        [
            "the same by float32 brute force in NumPy",
            f"{single['numpy'].median * 1e3:.1f} ms ({single['numpy'].spread})",
        ],
        ["opening the index", f"{opened:.2f} s"],
        ["peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"],
    ]
    print(conditions())
    print(f"{config.bundle}: {len(generation.ids):,} indexed; {len(held_out):,} held out in {config.data}")
    print(table(["figure", "value"], rows))


def _numpy(features: NDArray[np.float32], lengths: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.intp]:
    """What most people write: nearest rows by |x|^2 - 2 x.q, the lengths known, ties and rounding left to chance."""
    distances = lengths - 2 * (features @ query)
    nearest = np.argpartition(distances, K)[:K]
    return nearest[np.argsort(distances[nearest])]


def _scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Scores:
    tally = Tally()
    tally.add(torch.from_numpy(probabilities), torch.from_numpy(np.asarray(labels)))
    return tally.scores()


def _labels(generation: Generation, packed: PackedSet) -> NDArray[np.int64]:
    """Class id by image id, for every indexed image."""
    labels = np.full(int(generation.ids[-1]) + 1, -1, np.int64)
    train = packed.split("train").labels
    labels[generation.ids] = train[generation.ids]
    return labels


def _exact(generation: Generation, features: NDArray[np.float32], found: NDArray[np.int64], checked: int) -> str:
    _, expected = exact.nearest(generation.features, generation.ids, features[:checked], K)
    equal = (found[:checked] == expected).all(axis=1)
    return f"{int(equal.sum())} of {len(equal)}"


def _themselves(generation: Generation, searcher: FlatIndex, checked: int) -> str:
    rows = np.random.default_rng(0).choice(len(generation.ids), min(checked, len(generation.ids)), replace=False)
    distances, ids = searcher.search(np.asarray(generation.features[np.sort(rows)]), 1)
    first = (ids[:, 0] == generation.ids[np.sort(rows)]) & (distances[:, 0] == 0)
    return f"{int(first.sum())} of {len(rows)}"


def _mean(values: NDArray[np.float64]) -> Figure:
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    return Figure(mean, mean - half, mean + half)


def _share(figure: Figure) -> str:
    return f"{figure.value:.2%} (95 %: {figure.low:.2%} to {figure.high:.2%})"
