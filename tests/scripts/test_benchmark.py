"""What the benchmarks compare computes the same: a baseline of another network would be no baseline."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from index import Answers, flat_search
from index import Search as Index
from model.network.alexnet import AlexNet, initialise
from model.network.tables import PAPER, RELEASE, Table
from scripts.benchmark import Config, job
from scripts.benchmarks import search, train
from scripts.benchmarks.settings import Embed, Forward, Loader, Retrieval, Search, Train
from scripts.benchmarks.timing import Timing, conditions, in_turn, table
from scripts.benchmarks.train import Plain, without_norm
from scripts.command import Refused

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("of", [PAPER, RELEASE], ids=["paper", "release"])
def test_the_plain_form_is_the_same_network(of: Table) -> None:
    network = initialise(AlexNet(of, 10), torch.Generator().manual_seed(0))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 60
    with torch.no_grad():
        torch.testing.assert_close(Plain(network).eval()(x), network(x), rtol=1e-4, atol=1e-4)


def test_leaving_out_the_norm_leaves_out_nothing_else() -> None:
    bare = without_norm(PAPER)
    assert [row.then for row in bare.rows[:2]] == [("relu", "pool")] * 2  # type: ignore[union-attr]
    assert bare.rows[2:] == PAPER.rows[2:]


def test_things_are_timed_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def thing(name: str) -> int:
        calls.append(name)
        return 7

    timings = in_turn({"a": lambda: thing("a"), "b": lambda: thing("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [(len(timing.seconds), timing.handled) for timing in timings.values()] == [(2, 7), (2, 7)]


def test_a_rate_is_that_of_the_median_round() -> None:
    timing = Timing((0.1, 0.4, 0.2), handled=10)
    assert timing.rate == 50
    assert timing.milliseconds == (100, 200, 400)


def test_rounds_of_different_sizes_have_no_rate() -> None:
    sizes = iter([3, 3, 4])
    with pytest.raises(ValueError, match="rounds of different sizes: uneven"):
        in_turn({"uneven": lambda: next(sizes)}, rounds=2)


def test_a_table_reads_as_markdown() -> None:
    assert table(["what", "n"], [["one", "1"]]) == "| what | n |\n|------|---|\n| one  | 1 |"


def test_a_training_step_is_compared_with_plain_torch_and_with_no_norm() -> None:
    steps = {step.form: step for step in train.measure(Train(preset="cifar", batch=(4,), classes=3, rounds=1))}
    plain, ours, bare = (
        steps[name].images_per_s for name in ("plain torch, float32", "fc7, float32", "no response norm, float32")
    )
    assert steps["fc7, float32"].of_plain == pytest.approx(ours / plain)
    assert steps["fc7, float32"].of_no_norm == pytest.approx(ours / bare)
    assert steps["plain torch, float32"].of_no_norm is None


def test_float32_is_float32_in_every_form_that_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, training computes in it, and torch's own choice for convolutions is TF32."""
    convolutions: Any = torch.backends.cudnn  # its stubs lack `conv`
    seen = []

    def noted(*_: object, **__: object) -> dict[str, Timing]:
        seen.append(convolutions.conv.fp32_precision)
        return {train.PLAIN: Timing((1.0,), 4)}

    monkeypatch.setattr(train, "in_turn", noted)
    train.measure(Train(preset="cifar", batch=(4,), classes=3, rounds=1))
    assert seen == ["ieee"]


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        (Train(batch=(8, 0)), r"--batch \(8, 0\)"),
        (Forward(images=0), "--images 0"),
        (Loader(rounds=0), "--rounds 0"),
        (Loader(count=()), r"--count \(\)"),
        (Loader(noise=-3), "--noise -3"),
        (Embed(count=0), "--count 0"),
        (Search(k=-1), "--k -1"),
        (Retrieval(checked=0), "--checked 0"),
    ],
)
def test_numbers_below_one_are_refused(config: Config, flag: str) -> None:
    with pytest.raises(Refused, match=f"^{flag}: at least 1 is accepted$"):
        job(config)


def test_a_search_that_is_not_exact_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(Index):
        """Leaves the nearest out of every second answer."""

        def search(self, queries: NDArray[np.float32], k: int, **how: Any) -> Answers:
            found = super().search(queries, k + 1, **how)
            found.ids[::2, :k] = found.ids[::2, 1:]
            return replace(found, distances=found.distances[:, :k], ids=found.ids[:, :k])

    def inexact(*arrays: Any, **where: Any) -> Index:
        index = flat_search(*arrays, **where)
        index.__class__ = Second
        return index

    monkeypatch.setattr(search, "flat_search", inexact)
    (searched,) = search.measure(Search(rows=50, width=8, batch=(2,), checked=10, rounds=1))
    assert (searched.equal, searched.checked) == (5, 10)


def test_the_command_prints_json_for_machines() -> None:
    flags = ["search", "--rows", "50", "--width", "8", "--batch", "2", "3", "--checked", "4", "--rounds", "1", "--json"]
    said = subprocess.run([sys.executable, "scripts/benchmark.py", *flags], cwd=ROOT, capture_output=True, check=True)
    told = json.loads(said.stdout)
    assert "torch" in told["conditions"]
    assert [(row["batch"], row["equal"], row["checked"]) for row in told["rows"]] == [(2, 4, 4), (3, 4, 4)]


def test_the_gpu_that_was_asked_for_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU {device.index}")
    second = torch.device("cuda:1")
    in_turn({"": lambda: 1}, rounds=2, warm_up=1, device=second)
    assert waited == [second] * 3
    in_turn({"": lambda: 1}, rounds=2, device=torch.device("cpu"))
    assert len(waited) == 3
    assert conditions("cuda:1") == f"GPU 1; {conditions('cpu')}"
    assert "GPU" not in conditions("cpu")
