"""Which processes share what is planned, or refused in one line, before any of them meets."""

from dataclasses import replace

import pytest

from model.distributed.layout import LayoutError, Parallel, edges, lay_out, sent
from model.network.tables import CIFAR, PAPER, Conv


@pytest.mark.parametrize(
    ("parallel", "processes", "expected"),
    [
        ("auto", 1, ("data", 1, 1)),
        ("auto", 2, ("columns", 1, 2)),
        ("auto", 3, ("data", 3, 1)),
        ("auto", 8, ("columns", 4, 2)),
        ("columns", 4, ("columns", 2, 2)),
        ("data", 4, ("data", 4, 1)),
        ("hybrid", 4, ("hybrid", 4, 1)),
    ],
)
def test_processes_become_replicas_and_columns(
    parallel: Parallel, processes: int, expected: tuple[str, int, int]
) -> None:
    layout = lay_out(parallel, processes, PAPER, 1000, batch=384)
    assert (layout.scheme, layout.replicas, layout.columns) == expected
    assert layout.why.startswith(f"{expected[0]}: {expected[1]} replica(s) of {expected[2]} process(es), ")


@pytest.mark.parametrize(
    ("parallel", "processes", "batch", "message"),
    [
        ("columns", 3, 128, "3 processes do not divide into networks of 2 columns: start a multiple of 2"),
        ("columns", 1, 128, "1 processes do not divide"),
        ("data", 3, 128, "a batch of 128 images does not divide among 3 replicas"),
        ("hybrid", 3, 384, "fc6's 4096 outputs do not divide among 3 processes"),
    ],
)
def test_what_does_not_divide_is_refused(parallel: Parallel, processes: int, batch: int, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        lay_out(parallel, processes, PAPER, 1000, batch)


def test_a_table_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(LayoutError, match="crosses from column to column"):
        lay_out("columns", 2, replace(CIFAR, norm_crosses=True), 10, batch=128)
    assert lay_out("auto", 2, replace(CIFAR, norm_crosses=True), 10, batch=128).scheme == "data"
    odd = replace(CIFAR, rows=(Conv(33, kernel=5, sees="image"), *CIFAR.rows[1:]))
    with pytest.raises(LayoutError, match="conv1's 33 outputs do not divide among 2 processes"):
        lay_out("columns", 2, odd, 10, batch=128)


def test_edges_are_the_papers() -> None:
    assert edges(PAPER, 1000) == {
        "conv3": 2 * 21_632,
        "fc6": 2 * 4_608,
        "fc7": 2 * 2_048,
        "fc8": 2 * 2_048,
        "logits": 1000,
    }


def test_bytes_of_a_step_by_scheme() -> None:
    """Per process, 128 images, float32. By layers-145.cfg: 30.0 MB each way over both GPUs, fc8's edge
    counted one way and no logits; ours adds that edge's other way and the logits."""
    columns = sent(lay_out("columns", 2, PAPER, 1000, 128), PAPER, 1000, 128)
    assert sum(columns.values()) == 2 * 128 * 4 * (21_632 + 4_608 + 2_048 + 2_048 + 500)
    assert sum(columns.values()) - 2 * 128 * 4 * (2_048 / 2 + 500) == 2 * 128 * 4 * 58_624 / 2
    assert sent(lay_out("data", 2, PAPER, 1000, 128), PAPER, 1000, 128) == {"gradients": 4 * 60_965_224}
    hybrid = sent(lay_out("hybrid", 2, PAPER, 1000, 128), PAPER, 1000, 128)
    assert hybrid["gradients"] == 4 * 2_334_080  # the convolutions' parameters
    assert hybrid["fc6"] == 2 * 64 * 4 * 9_216  # both ways: 64 images' pool5 to the other
    assert hybrid["fc7"] == hybrid["fc8"] == 2 * 128 * 4 * 2_048
    assert not sent(lay_out("auto", 1, PAPER, 1000, 128), PAPER, 1000, 128)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(LayoutError, match="1 classes are too few for 2 processes"):
        lay_out("columns", 2, CIFAR, 1, batch=128)


def test_the_reason_says_what_it_costs() -> None:
    assert lay_out("auto", 2, PAPER, 1000, 128).why == (
        "columns: 1 replica(s) of 2 process(es), because 2 processes divide into the 2 columns of table 'paper'; "
        "each sends 31.6 MB a step in float32"
    )
    assert lay_out("data", 2, PAPER, 1000, 128).why.endswith("as asked; each sends 243.9 MB a step in float32")
