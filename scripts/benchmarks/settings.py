"""The command line of each benchmark.

It stands apart from them so that --help imports neither torch nor FAISS, and so that training and the loader can be
measured where there is no FAISS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.command import Refused


@dataclass(frozen=True, kw_only=True)
class Train:
    """Time one training step (forward, backward, update) of a whole network, in turn with its baselines."""

    preset: Literal["paper", "release", "cifar", "photo"] = "paper"  # network and recipe
    batch: tuple[int, ...] = (128,)  # images a step; several: how the cost grows
    classes: int = 1000  # that the network tells apart
    rounds: int = 5  # timed steps of each form, after one that is not
    allocator: bool = True  # keep freed memory, as scripts/train.py does; for all forms alike
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Time the forward pass of a whole network, in turn with its baselines, and the start of each engine."""

    preset: Literal["paper", "release", "cifar", "photo"] = "paper"  # whose network
    batch: tuple[int, ...] = (1, 8, 32, 256)  # images in a pass
    classes: int = 1000  # that the network tells apart
    images: int = 128  # in a round of each form; at least one batch
    rounds: int = 5  # timed, after one that is not
    engine: tuple[Literal["openvino", "torch"], ...] = ("openvino", "torch")  # of ours; on a GPU torch alone
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Time the way of images from disk to training batches."""

    data: Path = Path("data/cifar10")  # packed dataset
    noise: int = 0  # so many images of noise, packed at the preset's size into a temporary folder, instead of --data
    images: Path | None = None  # the same images as class folders: the baseline, ImageFolder + DataLoader + PIL
    preset: Literal["paper", "release", "cifar", "photo"] = "release"  # whose augmentation
    batch: int = 128  # images
    count: tuple[int, ...] = (8192,)  # images in a round; several: how the cost grows
    rounds: int = 5  # timed, after one that is not
    cold: bool = False  # also with the file's pages dropped from memory before each round
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N: where batches go
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Time the batch job (embed a collection, publish a bundle), in turn with its parts."""

    data: Path = Path("data/cifar10")  # packed dataset (its split train); bundles are written beside it, and removed
    images: Path | None = None  # class folders: also embed image files, by the job and by what most people write
    checkpoint: Path | None = None  # a trained network; without one, a network of random weights
    preset: Literal["paper", "release", "cifar", "photo"] = "cifar"  # of the network of random weights
    precision: Literal["float32", "bfloat16"] = "float32"  # of the network's arithmetic
    engine: Literal["auto", "openvino", "torch"] = "auto"  # that runs it
    count: int = 50_000  # images in a round, at most: the first ones
    rounds: int = 3  # timed, after one that is not
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Search:
    """Time the nearest-neighbour search over features of noise."""

    rows: int = 50_000  # indexed features
    width: int = 4096  # numbers in each
    batch: tuple[int, ...] = (1, 500)  # queries searched together
    k: int = 6  # neighbours
    checked: int = 20  # queries whose neighbours are compared with brute force in float64
    rounds: int = 5  # timed, after one that is not
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Measure a bundle on held-out images."""

    bundle: Path = Path("bundles/cifar10")
    data: Path = Path("data/cifar10")  # packed dataset with the held-out images
    split: str = "test"  # which of its splits they are
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    checked: int = 200  # held-out images whose six neighbours are compared with brute force in float64
    rounds: int = 20  # timed single requests, after three that are not
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Features:
    """Write features to measure an index on: of a dataset's images, then of crops and mirror images of them.

    Run again after a stop, or for more rows, it continues.
    """

    data: Path = Path("data/cifar10")  # packed dataset; its split train is embedded
    checkpoint: Path = Path("runs/cifar10/checkpoint.safetensors")  # the trained network
    rows: int = 1_000_000  # features to write; 4096 numbers take 16 KiB
    out: Path = Path("data/features")  # folder for features.npy and queries.npy
    split: str = "test"  # whose first images are the queries
    queries: int = 2000  # of them
    seed: int = 0  # which crops come first
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Index:
    """Compare the index with what others would run, on the same features: time, recall, memory.

    Every row of the table has a process of its own, one after the other.
    """

    bundle: Path = Path("bundles/cifar10")  # whose features are indexed
    data: Path = Path("data/cifar10")  # packed dataset with images that the bundle does not hold: the queries
    split: str = "test"  # which of its splits they are
    features: Path | None = None  # a .npy file of float32 rows, in place of the bundle's
    queries: Path | None = None  # a .npy file of float32 rows, in place of the dataset's images
    rows: tuple[int, ...] = ()  # so many of the first features; several: how the cost grows; none: all
    k: int = 6  # neighbours
    batch: int = 64  # queries searched together
    checked: int = 1000  # queries whose neighbours are compared with brute force in float64
    rounds: int = 100  # timed single queries, after three that are not
    memory: str = "4GiB"  # for the index, as in scripts/build_index.py; what needs more is left out
    scratch: Path = Path("data")  # where a folder for the files of one comparison is made, and removed
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Compare the neighbours, the accuracy and the speed of bfloat16 features with those of float32."""

    checkpoint: Path = Path("runs/cifar10/checkpoint.safetensors")  # the trained network
    data: Path = Path("data/cifar10")  # packed dataset; its split train is indexed
    split: str = "test"  # which of its splits is held out
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


@dataclass(frozen=True, kw_only=True)
class Service:
    """Load the service, in turn with what most people would run: answers a second, and how long each took.

    Every form is a process of its own, started anew in each round, one at a time.
    """

    preset: Literal["paper", "release", "cifar", "photo"] = "release"  # whose network, of random weights
    checkpoint: Path | None = None  # a trained network, in its place
    images: Path | None = None  # photographs to index: a folder, a list, shards; without them some are made
    indexed: int = 10_000  # photographs to make
    photographs: int = 128  # that clients send in turn: mirror images of indexed ones
    kilobytes: float = 16.0  # of each of them
    clients: tuple[int, ...] = (1, 8, 64)  # that ask at the same time, each again when it is answered
    seconds: float = 8.0  # of load, after one that is not counted, for each form and number of clients
    rounds: int = 3  # of each form, started anew
    overload: bool = False  # measure in place of that what arrivals at ten times the capacity do
    json: bool = False  # print JSON instead of a table


def check_positive(config: Any, *names: str) -> None:
    """Raise Refused for a number, or one of several, that is below 1."""
    for name in names:
        value = getattr(config, name)
        if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
            raise Refused(f"--{name} {value}: at least 1 is accepted")
