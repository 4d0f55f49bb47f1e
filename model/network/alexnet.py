"""The network as a table, and the module built from it.

B images, C channels held by this process, H x W pixels. A row is plain data, so the paper's architecture is read off
`PAPER` at a glance and an ablation is one changed row. The module knows no device, rank or path: where the paper's two
columns meet (`sees="both"`) it calls `exchange`, a function it is given (identity when one process holds both).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.response_norm import ResponseNorm, map_norm, response_norm

__all__ = [
    "CIFAR",
    "PAPER",
    "RELEASE",
    "TABLES",
    "AlexNet",
    "Conv",
    "Dense",
    "Exchange",
    "Table",
    "even",
    "identity",
    "initialise",
    "initialise_layer",
    "side",
]

Exchange = Callable[[Tensor, str], Tensor]
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


def identity(x: Tensor, edge: str) -> Tensor:  # noqa: ARG001
    """The exchange of a process that holds every column: there is nothing to fetch."""
    return x


class AlexNet(nn.Module):
    """The table's network, or `columns` of its columns.

    classes: outputs of fc8 that this module holds (all of them when it holds every column).
    columns: how many of the table's columns live here; default all.
    slices: how many processes share the units of each fully connected layer; default one per `columns`.
    exchange: (B, C, ...) of this process, edge -> (B, all C, ...) of every column, in column order. An edge is named
        by the layer that reads it ("conv3", "fc6"), the last one is "logits".
    """

    def __init__(
        self,
        table: Table,
        classes: int,
        *,
        columns: int | None = None,
        slices: int | None = None,
        exchange: Exchange = identity,
    ) -> None:
        super().__init__()
        self.table = table
        self.columns = table.columns if columns is None else columns
        self.slices = table.columns // self.columns if slices is None else slices
        self.exchange = exchange
        before = (None, *table.rows[:-1])
        self._test_scale = {name: _test_scale(row) for name, row in zip(table.named, before, strict=True)}
        in_channels, pixels = 3, table.crop  # maps of all columns, and their side
        for name, row in table.named.items():
            if isinstance(row, Conv):
                groups = self.columns if row.sees == "own" else 1
                inputs = self._share(in_channels) if row.sees == "own" else in_channels
                outputs, zeros = self._share(row.channels), row.padding[0] if even(row.padding) else 0
                layer: nn.Module = nn.Conv2d(inputs, outputs, row.kernel, row.stride, zeros, groups=groups)
                in_channels, pixels = row.channels, side(row, pixels)
            else:
                inputs, pixels = in_channels * pixels * pixels, 1
                layer = nn.Linear(inputs, classes if row.units is None else row.units // self.slices)
                in_channels = row.units or in_channels
            self.add_module(name, layer)

    def _share(self, channels: int) -> int:
        """How many of a convolution's channels live here."""
        return channels * self.columns // self.table.columns

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, 3, crop, crop) float -> logits (B, classes), embedding (B, width): the last hidden layer after ReLU.

        masks: layer name -> bool (B, units held here), False where dropped. None is the test pass. In training the
        embedding is what fc8 saw, after dropout. In the test pass it is the ReLU's output, whatever the scaling.
        """
        if self.table.input_scale != 1.0:
            x = x * self.table.input_scale
        for name, row in self.table.named.items():
            if isinstance(row, Conv):
                x = self._conv(row, self.get_submodule(name), self.exchange(x, name) if row.sees == "both" else x)
                continue
            embedding = self.exchange(x, name).flatten(1)
            x = self.dense(name, embedding, test=masks is None)
            if row.units is not None:
                x = F.relu(x, inplace=True)
                x = _dropped(x, masks[name], row) if masks and name in masks else x
        return self.exchange(x, "logits"), embedding

    def dense(self, name: str, x: Tensor, *, test: bool) -> Tensor:
        """(B, units of the layer before) -> (B, units held here): fully connected layer `name`, before its ReLU.

        test: `x` comes from a test pass, so it is scaled first where the row before says `scaling="test"`.
        """
        scale = self._test_scale[name] if test else 1.0
        out: Tensor = self.get_submodule(name)(x if scale == 1.0 else x * scale)
        return out

    def _conv(self, row: Conv, layer: nn.Module, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W'): the convolution and what follows it."""
        if not even(row.padding):  # else the convolution does it, without a copy
            x = F.pad(x, row.padding)
        x = layer(x)
        for step in row.then.split():
            if step == "relu":
                x = F.relu(x, inplace=True)
            elif step == "pool":
                x = F.max_pool2d(x, kernel_size=3, stride=2)
            elif step == "norm":
                x = response_norm(x, self.table.norm, groups=1 if self.table.norm_crosses else self.columns)
            elif step == "map_norm":
                x = map_norm(x, self.table.map_norm)
            else:
                raise ValueError(f"a layer may do relu, norm, map_norm or pool, not {step!r}")
        return x


def _dropped(x: Tensor, kept: Tensor, row: Dense) -> Tensor:
    """A hidden layer's outputs in training, in x's type: a bool mask and a plain number do not widen bfloat16."""
    x = x * kept
    return x * (1 / (1 - row.dropout)) if row.scaling == "train" else x


def _test_scale(before: Conv | Dense | None) -> float:
    """By how much the test pass multiplies what the layer after `before` reads."""
    return 1 - before.dropout if isinstance(before, Dense) and before.scaling == "test" else 1.0


def initialise(network: AlexNet, generator: torch.Generator) -> AlexNet:
    """Draw every weight from N(0, std) and set every bias, as the table's rows say (section 5); returns the network.

    The network must hold every column: what `generator` gives must not depend on how the columns are spread.
    """
    for name, row in network.table.named.items():
        initialise_layer(row, network.get_parameter(f"{name}.weight"), network.get_parameter(f"{name}.bias"), generator)
    return network


@torch.no_grad()
def initialise_layer(row: Conv | Dense, weight: Tensor, bias: Tensor, generator: torch.Generator) -> None:
    """Draw one layer's weight from N(0, std) and set its bias, in place, as `row` says. The layer must be whole."""
    std = sqrt(2 / weight[0].numel()) if row.std is None else row.std
    weight.normal_(0.0, std, generator=generator)
    bias.fill_(row.bias)


def even(padding: tuple[int, int, int, int]) -> bool:
    """The same on all sides."""
    return len(set(padding)) == 1


def side(row: Conv, pixels: int) -> int:
    """Side of a layer's maps after its convolution and its pooling."""
    pixels = (pixels + row.padding[0] + row.padding[1] - row.kernel) // row.stride + 1
    return (pixels - 3) // 2 + 1 if "pool" in row.then.split() else pixels
