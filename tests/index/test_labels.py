"""Labels say which images have each; names of the catalogue, in the generation's order."""

from pathlib import Path

import numpy as np
import pytest

from index.labels import Labels, NoSuchLabel
from tests.index.blocks import build, collection


def test_each_label_has_its_images_in_order_and_equal_names_are_one_label() -> None:
    classes = np.array([2, 0, -1, 1, 0, 2, 3])
    labels = Labels(("dog", "cat", "dog", "bird", "none of it"), classes, np.arange(10, 17))
    assert labels.names == ("bird", "cat", "dog")
    assert {name: labels.images(name).tolist() for name in labels.names} == {
        "bird": [16],
        "cat": [13],
        "dog": [10, 11, 14, 15],
    }
    assert labels.unlabelled == 1


def test_a_label_that_no_image_has_is_told_with_some_that_are_accepted() -> None:
    labels = Labels([f"{i:03}" for i in range(7)], np.arange(7), np.arange(7))
    known = "accepted: '000', '001', '002', '003', '004' and 2 more$"
    with pytest.raises(NoSuchLabel, match=f"^no image has the label 'frog'; {known}"):
        labels.images("frog")
    with pytest.raises(NoSuchLabel, match=f"'{'x' * 100}'; {known}"):
        labels.images("x" * 10_000)
    with pytest.raises(NoSuchLabel, match="'dog'; accepted: 'cat'$"):
        Labels(["cat"], np.zeros(1, np.int64), np.zeros(1, np.int64)).images("dog")
    with pytest.raises(NoSuchLabel, match="no image has the label 'cat'; no image has one$"):
        Labels(["cat"], np.array([-1]), np.zeros(1, np.int64)).images("cat")


def test_a_generation_knows_the_labels_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    generation = build(tmp_path / "bundle", tmp_path / "checkpoint", collection(50))
    labels = generation.labels
    assert labels is generation.labels
    found = {image: name for name in labels.names for image in labels.images(name).tolist()}
    assert found == {i: label for i in generation.ids.tolist() if (label := generation.catalogue.image(i).label)}
    assert labels.unlabelled == len(generation.ids) - len(found) > 0
