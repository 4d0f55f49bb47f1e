"""OpenVINO's graph computes what torch's network does: every table of the project, and each particular by itself."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.embed import Embedder
from model.network.tables import TABLES, Conv, Dense, ResponseNorm, Scaling, Sees, Step, Table
from model.published.tables import CAFFE, TORCHVISION
from tests.model.forward.networks import assert_same, images_of, lively

EVERY = [*TABLES.values(), CAFFE, TORCHVISION]
QUICK = ("cifar", "photo")
NORM = ResponseNorm(alpha=1e-3)  # strong enough that an error in it shows
BASE = Table(
    name="base",
    crop=17,
    rows=(
        Conv(8, 3, padding=1, sees="image", then=("relu", "norm", "pool")),  # 17 x 17 -> 8 x 8
        Conv(12, 3, padding=1),
        Dense(24),
        Dense(16),
        Dense(None),
    ),
    norm=NORM,
    map_norm=replace(NORM, k=1.0),
)


def first(**changes: Any) -> Table:
    """Return BASE with another first layer."""
    return replace(BASE, rows=(replace(BASE.rows[0], **changes), *BASE.rows[1:]))


def second(**changes: Any) -> Table:
    """Return BASE with another second layer."""
    return replace(BASE, rows=(BASE.rows[0], replace(BASE.rows[1], **changes), *BASE.rows[2:]))


def four(**changes: Any) -> Table:
    return replace(BASE, columns=4, **changes)


# By particular: a table that has it, and one that differs in nothing else and has weights of the same shapes.
PARTICULARS: dict[str, tuple[Table, Table]] = {
    "zeros left": (first(padding=(2, 0, 1, 1)), first(padding=(0, 2, 1, 1))),
    "zeros right": (first(padding=(0, 2, 1, 1)), first(padding=(1, 1, 1, 1))),
    "zeros above": (first(padding=(1, 1, 2, 0)), first(padding=(1, 1, 0, 2))),
    "zeros below": (first(padding=(1, 1, 0, 2)), first(padding=(1, 1, 1, 1))),
    "stride, and a window over the edge": (
        first(kernel=5, stride=3, padding=(0, 3, 0, 3), then=("relu",)),
        first(kernel=5, stride=3, padding=(3, 0, 3, 0), then=("relu",)),
    ),
    "pooling that leaves a row over": (  # 18 x 18 -> 8 x 8, as cifar's 28 give 13
        first(padding=(1, 2, 1, 2)),
        first(padding=(2, 1, 2, 1)),
    ),
    "no pooling": (second(), second(then=("relu", "norm"))),
    "release's order of steps": (first(then=("norm", "pool", "relu")), first(then=("relu", "norm", "pool"))),
    "no ReLU": (first(then=("norm", "pool")), first(then=("norm", "pool", "relu"))),
    "norm in one column": (BASE, replace(BASE, norm_crosses=True)),
    "norm across columns": (replace(BASE, norm_crosses=True), BASE),
    "alpha of the norm": (BASE, replace(BASE, norm=replace(NORM, alpha=NORM.alpha / NORM.size))),
    "size of the norm": (replace(BASE, norm=replace(NORM, size=3)), BASE),
    "k of the norm": (replace(BASE, norm=replace(NORM, k=1.0)), BASE),
    "k that is no whole number": (replace(BASE, norm=replace(NORM, k=1.5)), replace(BASE, norm=replace(NORM, k=1.0))),
    "beta of the norm": (replace(BASE, norm=replace(NORM, beta=0.5)), BASE),
    "map_norm": (first(then=("relu", "map_norm", "pool")), first(then=("relu", "pool"))),
    "map_norm's own constants": (
        replace(first(then=("relu", "norm", "map_norm", "pool")), map_norm=ResponseNorm(3, 1e-4, 0.6, 3.0)),
        first(then=("relu", "norm", "map_norm", "pool")),
    ),
    "input_scale": (replace(BASE, input_scale=0.5), replace(BASE, input_scale=0.25)),
    "one column": (replace(BASE, columns=1), four(rows=second(sees="both").rows)),
    "four columns": (four(rows=first(channels=16).rows), four(rows=first(channels=16).rows, norm_crosses=True)),
    "four columns that meet": (four(rows=second(sees="both").rows), replace(BASE, columns=1)),
    "groups in one branch": (four(norm_crosses=True), four()),
    "dropout made up for in the test pass": (
        replace(BASE, rows=(*BASE.rows[:2], Dense(24, 0.3, scaling="test"), *BASE.rows[3:])),
        replace(BASE, rows=(*BASE.rows[:2], Dense(24, 0.3), *BASE.rows[3:])),
    ),
}


def answers(table: Table, engine: Any, weights_of: Table | None = None) -> tuple[NDArray[np.float32], ...]:
    """Probabilities and features of two images, and the probabilities of their ten views."""
    embedder = Embedder(replace(lively(weights_of or table), table=table), "cpu", engine)
    images = images_of(table)
    return *embedder(images), embedder.ten_views(images)


@pytest.mark.parametrize(
    "table", [pytest.param(t, id=t.name, marks=[] if t.name in QUICK else [pytest.mark.slow]) for t in EVERY]
)
def test_every_table_gives_the_answers_of_torch(table: Table) -> None:
    checkpoint, images = lively(table), images_of(table)
    reference, embedder = Embedder(checkpoint, "cpu", "torch"), Embedder(checkpoint, "cpu", "openvino")
    probabilities, features = reference(images)
    one, other = features
    assert np.abs(one - other).max() > 0.1 * features.max()  # what the images differ in reaches the end
    assert np.abs(probabilities[0] - probabilities[1]).max() > 0.01
    for found, wanted in zip(embedder(images), (probabilities, features), strict=True):
        assert_same(found, wanted)
    assert_same(embedder.ten_views(images), reference.ten_views(images))


@pytest.mark.parametrize("particular", PARTICULARS)
def test_each_particular_by_itself_gives_the_answers_of_torch(particular: str) -> None:
    table, without = PARTICULARS[particular]
    wanted = answers(table, "torch")
    for found, expected in zip(answers(table, "openvino"), wanted, strict=True):
        assert_same(found, expected)
    features = answers(without, "torch", weights_of=table)[1]
    assert np.abs(features - wanted[1]).max() > 1e-3 * wanted[1].max()  # the particular can be seen in the features


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Small tables, with all that a row can say."""
    columns = draw(st.sampled_from((1, 2, 4)))
    norm = st.builds(ResponseNorm, st.sampled_from((3, 5)), st.floats(1e-5, 1e-2), st.floats(0.3, 1), st.floats(1, 3))
    steps = st.lists(st.sampled_from(get_args(Step)), unique=True)
    rows: list[Conv | Dense] = []
    own_or_both: list[Sees] = ["own", "both"]
    scalings: list[Scaling] = ["train", "test"]
    for layer in range(draw(st.integers(1, 3))):
        kernel, stride, channels = draw(st.tuples(st.sampled_from((1, 3)), st.integers(1, 2), st.sampled_from((4, 8))))
        zeros = st.integers(0, kernel - 1)  # no window sees zeros only
        sides = zeros | st.tuples(zeros, zeros).map(lambda pair: (*pair, *pair))
        sees: Sees = draw(st.sampled_from(own_or_both)) if layer else "image"
        then: tuple[Step, ...] = tuple(
            step for step in draw(steps) if step != "pool" or layer == 0
        )  # two poolings leave nothing
        rows.append(Conv(channels, kernel, stride, draw(sides), sees, then))
    rows += [Dense(8, draw(st.sampled_from((0.0, 0.5))), scaling=draw(st.sampled_from(scalings))), Dense(None)]
    scale, crosses = draw(st.sampled_from((1.0, 1 / 64))), draw(st.booleans())
    return Table("drawn", draw(st.integers(16, 19)), tuple(rows), columns, draw(norm), draw(norm), crosses, scale)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(table=tables())
def test_tables_that_nobody_wrote_give_the_answers_of_torch(table: Table) -> None:
    for found, wanted in zip(answers(table, "openvino"), answers(table, "torch"), strict=True):
        assert_same(found, wanted)
