"""The network as a table: rows of plain data, so that an architecture is read off at a glance.

An ablation is one changed row. alexnet.py makes a module of a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from model.network.response_norm import ResponseNorm

__all__ = ["CIFAR", "PAPER", "RELEASE", "TABLES", "Conv", "Dense", "Table", "even", "side"]

Scaling = Literal["train", "test"]


@dataclass(frozen=True)
class Conv:
    """One convolutional layer: `channels` kernels over both columns together, then the steps named in `then`."""

    channels: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # zeros left, right, above, below
    sees: str = "own"  # the maps it reads: "image", its "own" column's, or "both"
    then: str = "relu"  # in order, of: relu, norm (section 3.3), map_norm, pool (3 x 3, stride 2: section 3.4)
    std: float | None = 0.01  # of the initial weights; None: sqrt(2 / fan in) (He)
    bias: float = 0.0


@dataclass(frozen=True)
class Dense:
    """One fully connected layer; it sees both columns.

    Dropout lowers the mean of what the next layer reads; `scaling` says when that is made up for. "train": in training
    the kept outputs are divided by 1 - dropout ("inverted" dropout, as in Caffe and torch). "test": in the test pass
    the next layer reads the outputs times 1 - dropout (section 4.2 and the 2012 code). With the same initial weights
    the next layer then starts at 1 - dropout times the scale, and learns more slowly.
    """

    units: int | None  # None: as many as there are classes, and no ReLU
    dropout: float = 0.0  # share of its outputs zeroed in training (section 4.2)
    std: float | None = 0.01
    bias: float = 0.0
    scaling: Scaling = "train"

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling is {' or '.join(map(repr, get_args(Scaling)))}, not {self.scaling!r}")


@dataclass(frozen=True)
class Table:
    """A whole network: rows from the image to the classes."""

    name: str
    crop: int  # the network's input is crop x crop pixels
    rows: tuple[Conv | Dense, ...]
    columns: int = 2
    norm: ResponseNorm = ResponseNorm()
    map_norm: ResponseNorm = ResponseNorm()
    norm_crosses: bool = False  # may a norm's window reach from one column into the other?
    input_scale: float = 1.0  # conv1 reads (pixels - mean) times this

    @property
    def named(self) -> dict[str, Conv | Dense]:
        """conv1 ... fc8 -> row."""
        return {f"{'conv' if isinstance(row, Conv) else 'fc'}{i}": row for i, row in enumerate(self.rows, 1)}

    @property
    def last(self) -> str:
        """Name of the last layer, whose outputs are the classes: "fc8"."""
        return list(self.named)[-1]

    @property
    def width(self) -> int:
        """Length of the embedding: the units of the last hidden layer."""
        width = self.rows[-2].units if isinstance(self.rows[-2], Dense) else None
        if width is None:
            raise ValueError(f"table {self.name!r} has no hidden fully connected layer")
        return width


# Figure 2 and sections 3.1-3.5. 224 input pixels give 55 outputs because the last window hangs three pixels over the
# right and bottom edge (the 2012 code counts windows with ceil); pooling at 55, 27 and 13 needs no such care.
PAPER = Table(
    name="paper",
    crop=224,
    rows=(
        Conv(96, kernel=11, stride=4, padding=(0, 3, 0, 3), sees="image", then="relu norm pool"),
        Conv(256, kernel=5, padding=(2, 2, 2, 2), then="relu norm pool", bias=1.0),
        Conv(384, kernel=3, padding=(1, 1, 1, 1), sees="both"),
        Conv(384, kernel=3, padding=(1, 1, 1, 1), bias=1.0),
        Conv(256, kernel=3, padding=(1, 1, 1, 1), then="relu pool", bias=1.0),
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),
        Dense(None),
    ),
)

# What the 2012 code does otherwise (layers-145.cfg): layer 1 is normalised and pooled before its ReLU, layer 2 has a
# second norm within each map, alpha is divided by the window, and conv3-5 start at 0.03.
RELEASE = Table(
    name="release",
    crop=224,
    rows=(
        Conv(96, kernel=11, stride=4, padding=(0, 3, 0, 3), sees="image", then="norm pool relu"),
        Conv(256, kernel=5, padding=(2, 2, 2, 2), then="relu norm map_norm pool", bias=1.0),
        Conv(384, kernel=3, padding=(1, 1, 1, 1), sees="both", std=0.03),
        Conv(384, kernel=3, padding=(1, 1, 1, 1), std=0.03, bias=1.0),
        Conv(256, kernel=3, padding=(1, 1, 1, 1), then="pool relu", std=0.03, bias=1.0),
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),
        Dense(None),
    ),
    norm=ResponseNorm(alpha=1e-4 / 5),
    map_norm=ResponseNorm(alpha=0.001 / 25, k=1.0),
)

# The same eight layers for 32 x 32 images, 28 x 28 crops: small enough to train on two CPU cores in minutes. Inputs
# are brought to unit variance and weights start as He et al. 2015 have it, for the few epochs there are.
CIFAR = Table(
    name="cifar",
    crop=28,
    rows=(
        Conv(32, kernel=3, padding=(1, 1, 1, 1), sees="image", then="relu norm pool", std=None),
        Conv(96, kernel=3, padding=(1, 1, 1, 1), then="relu norm pool", std=None),
        Conv(128, kernel=3, padding=(1, 1, 1, 1), sees="both", std=None),
        Conv(128, kernel=3, padding=(1, 1, 1, 1), std=None),
        Conv(96, kernel=3, padding=(1, 1, 1, 1), then="relu pool", std=None),
        Dense(1024, dropout=0.3, std=None),
        Dense(4096, dropout=0.3, std=None),
        Dense(None, std=None),
    ),
    input_scale=1 / 64,
)

TABLES: Mapping[str, Table] = {table.name: table for table in (PAPER, RELEASE, CIFAR)}


def even(padding: tuple[int, int, int, int]) -> bool:
    """The same on all sides."""
    return len(set(padding)) == 1


def side(row: Conv, pixels: int) -> int:
    """Side of a layer's maps after its convolution and its pooling."""
    pixels = (pixels + row.padding[0] + row.padding[1] - row.kernel) // row.stride + 1
    return (pixels - 3) // 2 + 1 if "pool" in row.then.split() else pixels
