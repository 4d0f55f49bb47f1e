"""The retrieval benchmark's figures on a bundle small enough to work them out from the definition."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from index import Answers, Bundle, Generation, Search, flat_search, open_search
from model import Embedder, load_checkpoint
from model.data.packing import pack
from model.data.rows import ArraySource
from model.forward import engines
from scripts.benchmarks import retrieval
from scripts.benchmarks.retrieval import (
    Count,
    K,
    Retrieved,
    agreement,
    as_brute_force,
    by_the_other_engine,
    finding_themselves,
    labels_of,
    measure,
    same_classes,
    shown,
)
from scripts.benchmarks.settings import Retrieval
from scripts.command import Refused
from tests.images import photograph
from tests.service.bundles import BROKEN, CLASSES, EACH, build

HELD_OUT = np.stack([photograph(32, 32, seed=100 + i) for i in range(9)])
LABELS = np.array([0, 1, 2, 2, 1, 0, 0, 2, 1])


@dataclass(frozen=True)
class Collection:
    """A bundle of class folders, one image of them broken, and a dataset whose training images it does not index."""

    bundle: Path
    data: Path
    generation: Generation
    features: NDArray[np.float32]  # of the held-out images
    probabilities: NDArray[np.float32]


def packed(out: Path, labels: NDArray[np.int64], classes: tuple[str, ...] = CLASSES) -> Path:
    def source(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ArraySource:
        names = [str(row) for row in range(len(images))]
        return ArraySource(images, labels, names, classes, f"{labels.tolist()}")

    pack(out, {"train": source(HELD_OUT[:3], np.zeros(3, np.int64)), "test": source(HELD_OUT[: len(labels)], labels)})
    return out


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    folder = tmp_path_factory.mktemp("retrieval")
    bundle = build(folder)
    generation = Bundle(bundle).current()
    probabilities, features = Embedder(load_checkpoint(generation.checkpoint), "cpu")(HELD_OUT)
    yield Collection(bundle, packed(folder / "packed", LABELS), generation, features, probabilities)
    generation.close()


def neighbours(collection: Collection, query: NDArray[np.float32]) -> list[int]:
    """The K nearest images' ids, from all distances."""
    generation = collection.generation
    distances = [float(np.linalg.norm(row.astype(np.float64) - query)) for row in generation.all_rows()]
    return [image_id for _, image_id in sorted(zip(distances, generation.ids.tolist(), strict=True))[:K]]


def test_the_figures_are_those_of_the_definition(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "timed", lambda job: (job(), 0.5))
    results = measure(Retrieval(bundle=collection.bundle, data=collection.data, device="cpu", checked=5, rounds=1))
    right = sum(int(row.argmax()) == label for row, label in zip(collection.probabilities, LABELS, strict=True))
    # An image's id is its position, BROKEN among them, and its class the folder that it came from.
    alike = [
        sum(image_id // EACH == label for image_id in neighbours(collection, query)) / K
        for query, label in zip(collection.features, LABELS, strict=True)
    ]
    assert (results.indexed, results.held_out) == (EACH * len(CLASSES) - 1, 9)
    assert (results.embedded_per_s, results.searched_per_s, results.opening_s) == (18, 18, 0.5)
    assert (results.network, results.search) == ("cpu (openvino, float32)", "cpu")
    assert results.top1 is not None
    assert results.top5 is not None
    assert results.agreement is not None
    assert results.top1.value == pytest.approx(right / 9)
    assert results.top5.value == 1  # there are three classes
    assert results.agreement.value == pytest.approx(sum(alike) / 9)
    assert 0 < results.agreement.low < results.agreement.value < results.agreement.high < 1
    assert (results.exact, results.either_engine, results.themselves) == (Count(5, 5), Count(5, 5), Count(5, 5))
    assert row(results, "label agreement of the 6 nearest").startswith(f"{sum(alike) / 9:.2%} (95 %: ")


def test_neighbours_that_the_other_engine_does_not_find_are_not_counted(collection: Collection) -> None:
    embedder = Embedder(load_checkpoint(collection.generation.checkpoint), "cpu")
    searcher = open_search(collection.generation)
    found = searcher.search(collection.features, K).ids
    found[2, 0] = -7
    assert by_the_other_engine(embedder, searcher, HELD_OUT, found) == Count(8, 9)


def test_a_machine_without_the_other_engine_measures_the_rest(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "model.forward.openvino_engine", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    results = measure(Retrieval(bundle=collection.bundle, data=collection.data, device="cpu", checked=2, rounds=1))
    assert (results.network, results.either_engine) == ("cpu (torch, float32)", None)
    assert row(results, "whose 6 are the same by the other engine").startswith("needs both engines")


def test_labels_are_the_catalogues_whatever_was_left_out(collection: Collection) -> None:
    ids = np.array([[BROKEN - 1, BROKEN + 1], [0, 29]])
    np.testing.assert_array_equal(labels_of(collection.generation, ids, CLASSES), [[1, 1], [0, 2]])


def test_a_label_is_the_name_of_a_class_not_its_number(collection: Collection) -> None:
    ids = np.array([0, BROKEN + 1, 29])
    found = labels_of(collection.generation, ids, ("frog", "dog", "car"))
    np.testing.assert_array_equal(found, [-1, 1, 0])  # cat, dog, frog


def test_ids_of_wordnet_and_their_words_are_the_same_classes() -> None:
    ids, words = ("n03126707", "n03425413"), ("crane", "gas pump")
    assert same_classes(ids, words)
    assert not same_classes(ids, words[::-1])
    stored: Any = SimpleNamespace(
        manifest=SimpleNamespace(classes=ids),
        catalogue=SimpleNamespace(labels=lambda: np.array([1, -1, 0])),
        ids=range(3),
    )
    np.testing.assert_array_equal(labels_of(stored, np.arange(3), words), [1, -1, 0])


def row(results: Retrieved, name: str) -> str:
    """The value of a figure, as printed."""
    lines = [[cell.strip() for cell in line.split("|")] for line in shown(results).splitlines()]
    (value,) = (line[2] for line in lines if line[1:2] == [name])
    return value


def test_an_index_without_labels_says_that_agreement_needs_them(collection: Collection, tmp_path: Path) -> None:
    bundle = build(tmp_path, lambda image_id: f"{image_id:04}.png")
    results = measure(Retrieval(bundle=bundle, data=collection.data, device="cpu", checked=2, rounds=1))
    assert results.agreement is None
    assert row(results, "label agreement of the 6 nearest") == "needs labels of the same classes, held-out and indexed"
    assert "%" in row(results, "top-1 accuracy, central view")
    assert results.exact == Count(2, 2)


@pytest.mark.parametrize("labelled", [True, False])
def test_held_out_images_of_other_classes_or_none_are_measured_as_far_as_they_can_be(
    labelled: bool, collection: Collection, tmp_path: Path
) -> None:
    data = packed(tmp_path / "packed", np.minimum(LABELS, 1), ("dog", "frog") if labelled else CLASSES)
    if not labelled:
        np.save(data / "test" / "labels.npy", np.full(9, -1))
    results = measure(Retrieval(bundle=collection.bundle, data=data, device="cpu", checked=2, rounds=1))
    for name in ("top-1 accuracy, central view", "top-5 accuracy, central view"):
        assert row(results, name) == "needs held-out labels of the network's classes"
    assert (results.agreement is not None) == labelled
    assert results.exact == Count(2, 2)


def test_agreement_is_of_the_images_whose_label_is_known() -> None:
    neighbours = np.array([[0, 0, -1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    found = agreement(neighbours, np.array([0, 1, -1]))
    assert found is not None
    assert found.value == pytest.approx((2 / 4 + 1) / 2)


def test_a_wrong_neighbour_is_counted(collection: Collection) -> None:
    found = np.array([neighbours(collection, query) for query in collection.features])
    assert as_brute_force(collection.generation, collection.features, found) == Count(9, 9)
    found[3, 5] = BROKEN
    found[4, :2] = found[4, 1::-1]  # the right ones in the wrong order
    assert as_brute_force(collection.generation, collection.features, found) == Count(7, 9)


def test_an_image_that_finds_another_first_is_counted(collection: Collection) -> None:
    generation = collection.generation
    moved = flat_search(generation.all_rows(), np.roll(generation.ids, 1))
    assert finding_themselves(generation, moved, 10) == Count(0, 10)


def test_an_image_at_a_distance_from_itself_is_counted(collection: Collection) -> None:
    class Inexact(Search):
        def search(self, queries: NDArray[np.float32], k: int, **how: Any) -> Answers:
            found = super().search(queries, k, **how)
            return replace(found, distances=found.distances + (found.ids == 0))

    generation = collection.generation
    everyone = len(generation.ids)
    inexact = open_search(generation)
    inexact.__class__ = Inexact
    assert finding_themselves(generation, inexact, everyone) == Count(everyone - 1, everyone)


def test_one_image_is_refused(collection: Collection, tmp_path: Path) -> None:
    data = packed(tmp_path / "packed", LABELS[:1])
    with pytest.raises(Refused, match="'test' has 1 images, at least two are needed"):
        measure(Retrieval(bundle=collection.bundle, data=data, device="cpu"))
