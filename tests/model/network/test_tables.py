"""The tables: the shapes written beside their rows are the network's, and a wrong word fails where a table is built."""

import inspect
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from model.network import tables
from model.network.alexnet import AlexNet
from model.network.tables import CIFAR, PAPER, PHOTO, RELEASE, TABLES, Conv, Dense, Table
from model.published import tables as published
from model.published.tables import CAFFE, TORCHVISION

PUBLISHED = (CAFFE, TORCHVISION)
COMMENTED_ROW = re.compile(r"^ +(?:Conv|Dense)\(.*\), +# (.+)$", re.MULTILINE)


def shapes(table: Table) -> list[str]:
    """A layer's maps, "96 x 55 x 55", and what the next layer reads of them, " -> 27 x 27", from a forward pass."""
    with torch.device("meta"):
        network = AlexNet(table, classes=1000)
    made: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda _l, _i, out, name=name: made.__setitem__(name, out))
        layer.register_forward_pre_hook(lambda _, inputs, name=name: read.__setitem__(name, inputs[0]))
    network(torch.empty(1, 3, table.crop, table.crop, device="meta"))
    found = []
    for name, following in zip(made, [*list(made)[1:], None], strict=True):
        if made[name].ndim == 2 or following is None:
            found.append("classes" if following is None else f"{made[name].shape[1]}")
            continue
        _, channels, height, width = made[name].shape
        pooled = round((read[following].numel() / channels) ** 0.5)
        found.append(f"{channels} x {height} x {width}" + (f" -> {pooled} x {pooled}" if pooled != height else ""))
    return found


@pytest.mark.parametrize(("module", "of"), [(tables, (PAPER, RELEASE, CIFAR, PHOTO)), (published, PUBLISHED)])
def test_the_shapes_beside_the_rows_are_the_networks(module: ModuleType, of: tuple[Table, ...]) -> None:
    assert COMMENTED_ROW.findall(inspect.getsource(module)) == [shape for table in of for shape in shapes(table)]


def test_release_orders_its_steps_as_the_2012_code_does() -> None:
    """Norm on the signed conv1 output, and a ReLU after the pool: equal to neither order of the paper."""
    rows = {name: row.then for name, row in RELEASE.named.items() if isinstance(row, Conv)}
    assert rows["conv1"] == ("norm", "pool", "relu")
    assert rows["conv2"] == ("relu", "norm", "map_norm", "pool")
    assert rows["conv5"] == ("pool", "relu")
    assert (RELEASE.norm.alpha, RELEASE.norm.k, RELEASE.map_norm.alpha, RELEASE.map_norm.k) == (2e-5, 2.0, 4e-5, 1.0)


def test_dropout_is_the_2012_codes_in_paper_and_release_and_inverted_elsewhere() -> None:
    rows = {table.name: table.rows for table in (*TABLES.values(), *PUBLISHED)}
    scaling = {name: {row.scaling for row in of if isinstance(row, Dense) and row.dropout} for name, of in rows.items()}
    inverted = {name: {"train"} for name in ("cifar", "photo", "caffe", "torchvision")}
    assert scaling == {"paper": {"test"}, "release": {"test"}, **inverted}


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        (Conv, "then", ("relu", "nrom"), "then accepts 'relu', 'norm', 'map_norm', 'pool', not 'nrom'"),
        (Conv, "then", "relu", "not 'r'"),
        (Conv, "sees", "neither", "sees accepts 'image', 'own', 'both', not 'neither'"),
        (Dense, "scaling", "never", "scaling accepts 'train', 'test', not 'never'"),
    ],
)
def test_a_wrong_word_fails_where_the_row_is_built(kind: Any, field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(8, **({"kernel": 3} if kind is Conv else {}), **{field: value})


@pytest.mark.parametrize("rows", [PAPER.rows[:-1], PAPER.rows[:5], (*PAPER.rows[:5], Dense(None)), ()])
def test_a_table_must_end_in_a_hidden_layer_and_the_classes(rows: tuple[Conv | Dense, ...]) -> None:
    with pytest.raises(ValueError, match="table 'paper' must end in"):
        replace(PAPER, rows=rows)
