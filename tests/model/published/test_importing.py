"""An imported network's classes: equal to those of the packed archives, from either place that has them."""

from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from model.data.class_names import names_in_lines
from model.data.ilsvrc import ilsvrc_sources
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.evaluation import check_fit
from model.published.importing import imported
from model.published.tables import CAFFE, BadWeights
from tests.model.data.ilsvrc_archives import make_archives
from tests.model.published.published_files import caffe_layers, narrow, new_caffemodel

# As Caffe's synset_words.txt has them: sorted by WordNet id.
SYNSET_WORDS = """n01440764 tench, Tinca tinca
n02012849 crane
n02119789 kit fox, Vulpes macrotis
n03126707 crane
"""


@pytest.fixture
def packed(tmp_path: Path) -> PackedSet:
    return pack(tmp_path / "packed", ilsvrc_sources(*make_archives(tmp_path), size=256), encoding="jpeg")


def published(folder: Path, classes: Path, count: int = 4) -> Checkpoint:
    source = folder / "bvlc.caffemodel"
    source.write_bytes(new_caffemodel(caffe_layers(fc6=24, fc7=16, classes=count)))
    return imported(source, classes=classes, caffe=narrow(CAFFE))


def test_classes_from_a_packed_dataset_fit_it(packed: PackedSet, tmp_path: Path) -> None:
    found = published(tmp_path, packed.path)
    assert found.classes == packed.classes
    check_fit({"bvlc": found}, packed)


def test_classes_from_synset_words_fit_the_packed_archives(packed: PackedSet, tmp_path: Path) -> None:
    (tmp_path / "synset_words.txt").write_text(SYNSET_WORDS)
    found = published(tmp_path, tmp_path / "synset_words.txt")
    assert found.classes == ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
    check_fit({"bvlc": found}, packed)


def test_other_files_lines_are_names_as_they_are() -> None:
    assert names_in_lines(["n01440764 tench, Tinca tinca", "cat, black"]) == (
        "n01440764 tench, Tinca tinca",
        "cat, black",
    )
    assert names_in_lines(["black cat, tabby", "dog"]) == ("black cat, tabby", "dog")


def test_a_dataset_of_another_count_or_no_dataset_is_refused(packed: PackedSet, tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match=r"packed: 4 names \(0 empty\), for a network of 5 classes"):
        published(tmp_path, packed.path, count=5)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadDataset, match=r"folder: no meta\.json"):
        published(tmp_path, tmp_path / "folder")
