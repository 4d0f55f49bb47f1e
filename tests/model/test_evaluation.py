"""Top-1, top-5, loss, ties and intervals against the definition; networks and views averaged by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from model.checkpoint import BadCheckpoint
from model.data.loader import Rows
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.rows import ArraySource
from model.evaluation import Tally, as_json, check_fit, credit, evaluate, table, wilson
from model.preprocess import Recipe
from tests.service.bundles import CLASSES, network


class Images:
    """Image i is filled with i; one in seven has no label."""

    labels = np.where(np.arange(40) % 7 == 0, -1, np.arange(40) % 3).astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        assert out is None
        wanted = np.arange(40)[rows]
        return np.broadcast_to(wanted[:, None, None, None], (len(wanted), 2, 2, 3)).astype(np.uint8)


class Guess:
    """A network whose probabilities are a fixed function of the image; ten views are another."""

    def __init__(self, seed: int) -> None:
        self.of_image = np.random.default_rng(seed).dirichlet(np.ones(3), (2, 40)).astype(np.float32)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.of_image[0, images[:, 0, 0, 0]], np.zeros((len(images), 1), np.float32)

    def ten_views(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self.of_image[1, images[:, 0, 0, 0]])


def fair_draw(scores: NDArray[np.float32], label: int, k: int) -> float:
    """The definition: among all orders that sort the scores, the share that put the label among the first k."""
    above = sum(1 for score in scores if score > scores[label])
    ties = sum(1 for score in scores if score == scores[label])
    return sum(1 for place in range(above, above + ties) if place < k) / ties


@given(scores=arrays(np.float32, 7, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5])), label=st.integers(0, 6))
@pytest.mark.parametrize("k", [1, 5])
def test_ties_are_shared_as_a_fair_draw_would(scores: NDArray[np.float32], label: int, k: int) -> None:
    ours = credit(torch.from_numpy(scores)[None], torch.tensor([label]), k)
    assert ours.item() == pytest.approx(fair_draw(scores, label, k))


def test_top_five_of_fewer_than_five_classes_is_all_of_them() -> None:
    assert credit(torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), 5).tolist() == [1.0] * 6


def test_a_network_that_answers_nan_is_never_right() -> None:
    assert credit(torch.full((2, 4), math.nan), torch.tensor([0, 3]), 5).tolist() == [0.0, 0.0]


def test_a_tally_over_batches_is_the_tally_of_all() -> None:
    probabilities = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    labels = torch.arange(50) % 10
    whole, parts = Tally(), Tally()
    whole.add(probabilities, labels)
    for start in range(0, 50, 7):
        parts.add(probabilities[start : start + 7], labels[start : start + 7])
    torch.testing.assert_close(parts.sums, whole.sums)
    scores = whole.scores()
    assert scores.images == 50
    assert scores.top1.value == pytest.approx((probabilities.argmax(1) == labels).double().mean().item())
    nll = -probabilities.double().gather(1, labels[:, None])[:, 0].log()
    assert scores.loss.value == pytest.approx(nll.mean().item())
    assert scores.loss.high - scores.loss.value == pytest.approx(
        1.96 * nll.std(correction=0).item() / 50**0.5, rel=1e-4
    )


def test_a_probability_of_zero_costs_87_not_infinity() -> None:
    tally = Tally()
    tally.add(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert tally.scores().loss.value == pytest.approx(87.34, abs=0.01)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (7790, 10000, 0.7708, 0.7870)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, n: int, low: float, high: float) -> None:
    figure = wilson(hits, n)
    assert figure.low == pytest.approx(low, abs=1e-4)
    assert figure.high == pytest.approx(high, abs=1e-4)
    assert figure.low <= figure.value <= figure.high


def test_networks_and_views_are_averaged_over_labelled_rows() -> None:
    first, second = Guess(1), Guess(2)
    reported: list[tuple[str, int, int]] = []
    results = evaluate(
        {"a": first, "b": second}, Images(), (1, 10), batch=9, report=lambda *said: reported.append(said)
    )
    known = np.flatnonzero(Images.labels >= 0)
    labels = Images.labels[known]
    for place, views in enumerate((1, 10)):
        assert list(results[views]) == ["a", "b", "mean"]
        mean = (first.of_image[place].astype(np.float64) + second.of_image[place]) / 2
        assert results[views]["mean"].top1.value == pytest.approx((mean[known].argmax(1) == labels).mean())
        loss = -np.log(mean[known, labels]).mean()
        assert results[views]["mean"].loss.value == pytest.approx(loss)
        assert results[views]["a"].images == len(known)
    assert reported[-1] == ("evaluate", 2 * len(known), 2 * len(known))
    assert [done for _, done, _ in reported] == sorted({done for _, done, _ in reported})


def test_one_network_has_no_mean_and_both_forms_print() -> None:
    results = evaluate({"a": Guess(1)}, Images(), (1,))
    assert list(results[1]) == ["a"]
    (row,) = as_json(results)
    _, line = table(results).splitlines()
    top1, top5, loss = row["top1"], row["top5"], row["loss"]
    assert line.split() == [
        "a",
        "1",
        *(f"{100 * top1['value']:.2f}", f"({100 * top1['low']:.2f}-{100 * top1['high']:.2f})"),
        *(f"{100 * top5['value']:.2f}", f"({100 * top5['low']:.2f}-{100 * top5['high']:.2f})"),
        *(f"{loss['value']:.4f}", f"({loss['low']:.4f}-{loss['high']:.4f})"),
        "34",
    ]
    assert (row["network"], row["views"], row["images"]) == ("a", 1, 34)
    assert row["top1"]["low"] < row["top1"]["value"] < row["top1"]["high"]


def test_nothing_to_evaluate_on_is_said() -> None:
    with pytest.raises(BadDataset, match="no labelled image"):
        Tally().scores()


def test_a_class_called_by_its_wordnet_id_is_the_one_called_by_its_words(tmp_path: Path) -> None:
    source = ArraySource(np.zeros((2, 32, 32, 3), np.uint8), np.array([0, 1]), ["a", "b"], ("crane", "gas pump"), "two")
    packed = pack(tmp_path / "packed", {"train": source})
    check_fit({"before": replace(network(), classes=("n03126707", "n03425413"))}, packed)
    with pytest.raises(BadCheckpoint, match="class 1 is 'n03425414', there 'gas pump'"):
        check_fit({"before": replace(network(), classes=("n03126707", "n03425414"))}, packed)


def test_a_network_is_not_evaluated_on_images_or_classes_that_are_not_its_own(tmp_path: Path) -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    source = ArraySource(images, np.array([0, 1]), ["a", "b"], CLASSES, "two")
    packed = pack(tmp_path / "packed", {"train": source})
    fits = network()
    check_fit({"fits": fits}, packed)
    for wrong, message in (
        (replace(fits, recipe=Recipe(stored=36, crop=32)), "wrong reads images of 36 pixels, .* has 32"),
        (
            replace(fits, classes=("cat", "frog", "dog")),
            "wrong tells 3 classes apart, not the 3 of .*packed: class 1 is 'frog', there 'dog'$",
        ),
        (replace(fits, classes=CLASSES[:2]), "wrong tells 2 classes apart, not the 3 of .*packed$"),
    ):
        with pytest.raises(BadCheckpoint, match=message):
            check_fit({"fits": fits, "wrong": wrong}, packed)
