"""The network as a table: rows of plain data, so that an architecture is read off at a glance.

An ablation is one changed row. alexnet.py builds the module that a table describes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["CIFAR", "PAPER", "PHOTO", "RELEASE", "TABLES", "Conv", "Dense", "ResponseNorm", "Sees", "Step", "Table"]

Sees = Literal["image", "own", "both"]
Step = Literal["relu", "norm", "map_norm", "pool"]
Scaling = Literal["train", "test"]


def _require(field: str, words: Iterable[str], accepted: tuple[str, ...]) -> None:
    for word in words:
        if word not in accepted:
            raise ValueError(f"{field} accepts {', '.join(map(repr, accepted))}, not {word!r}")


@dataclass(frozen=True)
class ResponseNorm:
    """The four constants of section 3.3. `alpha` multiplies the plain sum (torch's own op divides it by `size`)."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0


@dataclass(frozen=True)
class Conv:
    """One convolutional layer: `channels` kernels over both columns together, then the steps of `then` in order.

    The steps are a ReLU, `norm` (section 3.3), `map_norm` (the same within each map) and `pool` (the maximum of 3 x 3
    pixels, stride 2: section 3.4). Raises ValueError for a word that `Sees` or `Step` does not have.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int | tuple[int, int, int, int] = 0  # zeros on every side, or left, right, above, below
    sees: Sees = "own"  # the maps it reads: the image's, its own column's, or those of both columns
    then: tuple[Step, ...] = ("relu",)
    std: float | None = 0.01  # of the initial weights; None: sqrt(2 / fan in) (He)
    bias: float = 0.0

    def __post_init__(self) -> None:
        _require("sees", [self.sees], get_args(Sees))
        _require("then", self.then, get_args(Step))

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Zeros left, right, above and below."""
        return (self.padding,) * 4 if isinstance(self.padding, int) else self.padding

    def side(self, pixels: int) -> int:
        """Side of the maps after the convolution and its steps, for an input of `pixels` x `pixels`."""
        left, right, _, _ = self.sides
        pixels = (pixels + left + right - self.kernel) // self.stride + 1
        return (pixels - 3) // 2 + 1 if "pool" in self.then else pixels


@dataclass(frozen=True)
class Dense:
    """One fully connected layer; it sees both columns.

    Dropout lowers the mean of what the next layer reads, and `scaling` says where the code corrects this. "train": the
    outputs that are kept in training are divided by 1 - dropout ("inverted" dropout, as in Caffe and torch). "test":
    the next layer reads the outputs times 1 - dropout in the test pass (section 4.2 and the 2012 code). With "test" and
    the same initial weights, the next layer starts at a smaller scale and learns more slowly.
    """

    units: int | None  # None: as many as there are classes, and no ReLU
    dropout: float = 0.0  # share of its outputs zeroed in training (section 4.2)
    std: float | None = 0.01
    bias: float = 0.0
    scaling: Scaling = "train"

    def __post_init__(self) -> None:
        _require("scaling", [self.scaling], get_args(Scaling))


@dataclass(frozen=True)
class Table:
    """A whole network: rows from the image to the classes.

    Raises ValueError unless the last two rows are the hidden layer that gives the embedding, and Dense(None).
    """

    name: str
    crop: int  # the network's input is crop x crop pixels
    rows: tuple[Conv | Dense, ...]
    columns: int = 2
    norm: ResponseNorm = ResponseNorm()
    map_norm: ResponseNorm = ResponseNorm()
    norm_crosses: bool = False  # True: a window of `norm` reaches from one column into the other
    input_scale: float = 1.0  # conv1 reads (pixels - mean) x input_scale

    def __post_init__(self) -> None:
        self.width  # noqa: B018 (raises)

    @property
    def named(self) -> dict[str, Conv | Dense]:
        """Rows by name: conv1, conv2, ... fc8, numbered through."""
        return {f"{'conv' if isinstance(row, Conv) else 'fc'}{i}": row for i, row in enumerate(self.rows, 1)}

    @property
    def last(self) -> str:
        """Name of the last layer, whose outputs are the classes: "fc8"."""
        return list(self.named)[-1]

    @property
    def width(self) -> int:
        """Length of the embedding: the units of the last hidden layer."""
        match self.rows:
            case (*_, Dense(units=int(width)), Dense(units=None)):
                return width
        raise ValueError(f"table {self.name!r} must end in a hidden fully connected layer and Dense(None), the classes")

    @property
    def test_scales(self) -> dict[str, float]:
        """By layer: the factor on what it reads in the test pass, which makes up for the dropout before it."""
        before = (None, *self.rows[:-1])
        return {
            name: 1 - row.dropout if isinstance(row, Dense) and row.scaling == "test" else 1.0
            for name, row in zip(self.named, before, strict=True)
        }

    def shapes(self, classes: int) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter of the whole network by name, as in conv1.weight (96, 3, 11, 11)."""
        shapes: dict[str, tuple[int, ...]] = {}
        kernel: tuple[int, ...]
        maps, pixels = 3, self.crop  # that the layer reads, all columns together
        for name, row in self.named.items():
            if isinstance(row, Conv):
                seen, kernel = (maps // self.columns if row.sees == "own" else maps), (row.kernel,) * 2
                units, pixels = row.channels, row.side(pixels)
            else:
                seen, kernel, pixels = maps * pixels * pixels, (), 1
                units = classes if row.units is None else row.units
            shapes[f"{name}.weight"], shapes[f"{name}.bias"], maps = (units, seen, *kernel), (units,), units
        return shapes


# 224 input pixels give 55 outputs because the last window hangs three pixels over the right and bottom edge (the 2012
# code counts windows with ceil); pooling at 55, 27 and 13 needs no such care.
EDGE = (0, 3, 0, 3)

# 112 pixels and 5 zeros are what 56 windows of 7 at stride 2 cover; an odd number cannot be the same on both sides.
RIM = (2, 3, 2, 3)

# Figure 2 and sections 3.1-3.5. After a row: its maps, and what pooling leaves of them.
PAPER = Table(
    name="paper",
    crop=224,
    rows=(
        Conv(96, 11, stride=4, padding=EDGE, sees="image", then=("relu", "norm", "pool")),  # 96 x 55 x 55 -> 27 x 27
        Conv(256, 5, padding=2, then=("relu", "norm", "pool"), bias=1.0),  # 256 x 27 x 27 -> 13 x 13
        Conv(384, 3, padding=1, sees="both"),  # 384 x 13 x 13
        Conv(384, 3, padding=1, bias=1.0),  # 384 x 13 x 13
        Conv(256, 3, padding=1, then=("relu", "pool"), bias=1.0),  # 256 x 13 x 13 -> 6 x 6
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),  # 4096
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),  # 4096
        Dense(None),  # classes
    ),
)

# The 2012 code's differences (layers-145.cfg): layer 1 is normalised and pooled before its ReLU, layer 2 has a
# second norm within each map, alpha is divided by the window, and conv3-5 start at 0.03.
RELEASE = Table(
    name="release",
    crop=224,
    rows=(
        Conv(96, 11, stride=4, padding=EDGE, sees="image", then=("norm", "pool", "relu")),  # 96 x 55 x 55 -> 27 x 27
        Conv(256, 5, padding=2, then=("relu", "norm", "map_norm", "pool"), bias=1.0),  # 256 x 27 x 27 -> 13 x 13
        Conv(384, 3, padding=1, sees="both", std=0.03),  # 384 x 13 x 13
        Conv(384, 3, padding=1, std=0.03, bias=1.0),  # 384 x 13 x 13
        Conv(256, 3, padding=1, then=("pool", "relu"), std=0.03, bias=1.0),  # 256 x 13 x 13 -> 6 x 6
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),  # 4096
        Dense(4096, dropout=0.5, scaling="test", bias=1.0),  # 4096
        Dense(None),  # classes
    ),
    norm=ResponseNorm(alpha=1e-4 / 5),
    map_norm=ResponseNorm(alpha=0.001 / 25, k=1.0),
)

# The same eight layers for 32 x 32 images, 28 x 28 crops: small enough to train on two CPU cores in minutes. Inputs
# are scaled to unit variance and weights start as in He et al. 2015, because there are only a few epochs.
CIFAR = Table(
    name="cifar",
    crop=28,
    rows=(
        Conv(32, 3, padding=1, sees="image", then=("relu", "norm", "pool"), std=None),  # 32 x 28 x 28 -> 13 x 13
        Conv(96, 3, padding=1, then=("relu", "norm", "pool"), std=None),  # 96 x 13 x 13 -> 6 x 6
        Conv(128, 3, padding=1, sees="both", std=None),  # 128 x 6 x 6
        Conv(128, 3, padding=1, std=None),  # 128 x 6 x 6
        Conv(96, 3, padding=1, then=("relu", "pool"), std=None),  # 96 x 6 x 6 -> 2 x 2
        Dense(1024, dropout=0.3, std=None),  # 1024
        Dense(4096, dropout=0.3, std=None),  # 4096
        Dense(None, std=None),  # classes
    ),
    input_scale=1 / 64,
)

# The same eight layers for photographs of 128 x 128 pixels, 112 x 112 crops: half the side of the paper's input and a
# smaller first layer, so that two CPU cores train it in minutes. It starts as `cifar` does.
PHOTO = Table(
    name="photo",
    crop=112,
    rows=(
        Conv(64, 7, 2, padding=RIM, sees="image", then=("relu", "norm", "pool"), std=None),  # 64 x 56 x 56 -> 27 x 27
        Conv(128, 5, padding=2, then=("relu", "norm", "pool"), std=None),  # 128 x 27 x 27 -> 13 x 13
        Conv(192, 3, padding=1, sees="both", std=None),  # 192 x 13 x 13
        Conv(192, 3, padding=1, std=None),  # 192 x 13 x 13
        Conv(128, 3, padding=1, then=("relu", "pool"), std=None),  # 128 x 13 x 13 -> 6 x 6
        Dense(1024, dropout=0.3, std=None),  # 1024
        Dense(4096, dropout=0.3, std=None),  # 4096
        Dense(None, std=None),  # classes
    ),
    input_scale=1 / 64,
)

TABLES: Mapping[str, Table] = {table.name: table for table in (PAPER, RELEASE, CIFAR, PHOTO)}
