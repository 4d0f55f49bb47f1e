"""What the benchmarks compare computes the same: a baseline of another network would be no baseline."""

import torch

from model.network.alexnet import PAPER, AlexNet, initialise
from scripts.benchmarks.timing import in_turn, table
from scripts.benchmarks.train import Plain, without_norm


def test_the_plain_form_is_the_same_network() -> None:
    network = initialise(AlexNet(PAPER, 10), torch.Generator().manual_seed(0))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 60
    with torch.no_grad():
        torch.testing.assert_close(Plain(network).eval()(x), network(x)[0], rtol=1e-4, atol=1e-4)


def test_leaving_out_the_norm_leaves_out_nothing_else() -> None:
    bare = without_norm(PAPER)
    assert [row.then for row in bare.rows[:2]] == ["relu pool", "relu pool"]  # type: ignore[union-attr]
    assert bare.rows[2:] == PAPER.rows[2:]


def test_things_are_timed_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    timings = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_a_table_reads_as_markdown() -> None:
    assert table(["what", "n"], [["one", "1"]]) == "| what | n |\n|------|---|\n| one  | 1 |"
