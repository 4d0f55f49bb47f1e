"""The network as a module, built from a table.

B images, C channels held by this process, H x W pixels. The module knows no device, rank or path. Where the paper's
two columns meet (`sees="both"`) it calls `exchange`, which it is given: `identity` when one process holds both columns.
"""

from collections.abc import Callable, Mapping
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.network.response_norm import map_norm, response_norm
from model.network.tables import Conv, Dense, Table

__all__ = ["AlexNet", "Exchange", "identity", "initialise", "initialise_layer"]

Exchange = Callable[[Tensor, str], Tensor]


def identity(x: Tensor, edge: str) -> Tensor:  # noqa: ARG001
    """The exchange of a process that holds every column: x as it is."""
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
        self._test_scale = table.test_scales
        in_channels, pixels = 3, table.crop  # maps of all columns, and their side
        for name, row in table.named.items():
            if isinstance(row, Conv):
                groups = self.columns if row.sees == "own" else 1
                inputs = self._share(in_channels) if row.sees == "own" else in_channels
                outputs, zeros = self._share(row.channels), row.padding if isinstance(row.padding, int) else 0
                layer: nn.Module = nn.Conv2d(inputs, outputs, row.kernel, row.stride, zeros, groups=groups)
                in_channels, pixels = row.channels, row.side(pixels)
            else:
                inputs, pixels = in_channels * pixels * pixels, 1
                layer = nn.Linear(inputs, classes if row.units is None else row.units // self.slices)
                in_channels = row.units or in_channels
            self.add_module(name, layer)

    def _share(self, channels: int) -> int:
        """Return how many of a convolution's `channels` live here."""
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
        if not isinstance(row.padding, int):  # else the convolution does it, without a copy
            x = F.pad(x, row.padding)
        x = layer(x)
        for step in row.then:
            match step:
                case "relu":
                    x = F.relu(x, inplace=True)
                case "pool":
                    x = F.max_pool2d(x, kernel_size=3, stride=2)
                case "norm":
                    x = response_norm(x, self.table.norm, groups=1 if self.table.norm_crosses else self.columns)
                case "map_norm":
                    x = map_norm(x, self.table.map_norm)
        return x


def _dropped(x: Tensor, kept: Tensor, row: Dense) -> Tensor:
    """A hidden layer's outputs in training, in x's type: a bool mask and a plain number do not widen bfloat16."""
    x = x * kept
    return x * (1 / (1 - row.dropout)) if row.scaling == "train" else x


def initialise(network: AlexNet, generator: torch.Generator) -> AlexNet:
    """Draw every weight from N(0, std) and set every bias, as the table's rows say (section 5). Return the network.

    The network must hold every column, so that the weights do not depend on how the columns are spread.
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
