"""Queries are held out when an index is built, kept with it, and measure each generation before it is published."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Bundle
from index.queries import Queries
from model import Embedder, Source
from model.data import held_out
from model.data.folders import folder_source
from scripts.indexing.held_out import HeldOut, hold_out, measuring
from tests.service.bundles import BROKEN, CLASSES, build, image_file, in_class_folders, network


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(build(tmp_path))


@pytest.fixture
def source(tmp_path: Path, bundle: Bundle) -> Source:
    """The thirty images that the bundle holds, too."""
    assert bundle.path.is_dir()
    return folder_source(tmp_path / "images", 32)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a third of a collection be held out, as these are small."""
    monkeypatch.setattr(held_out, "SHARE", 3)


def published(bundle: Bundle, held: HeldOut, embedder: Any = None) -> dict[str, Any]:
    """Publish a generation that is measured with what was held out, and return its quality."""
    with closing(bundle.current()) as generation:
        gone = int(generation.ids[0])
    with closing(bundle.remove([gone], measuring(held, embedder or Embedder(network(), "cpu")))) as generation:
        return dict(generation.manifest.quality)


def names(source: Source | None) -> set[str]:
    return set() if source is None else {name for name, _, _ in source.entries()}


def test_a_few_images_are_kept_out_and_the_rest_is_indexed(tmp_path: Path, source: Source) -> None:
    held = hold_out(tmp_path / "images", source, "key", 4, Bundle(tmp_path / "new"))
    assert (len(held.indexed), held.queries and len(held.queries), held.source) == (26, 4, "key")
    assert names(held.indexed) | names(held.queries) == names(source)
    assert not names(held.indexed) & names(held.queries)


def test_a_held_out_split_leaves_the_collection_whole(tmp_path: Path) -> None:
    for split, image_id in (("train", 0), ("train", 11), ("val", 1), ("val", 2)):
        file = tmp_path / "set" / split / in_class_folders(image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_file(image_id))
    source = folder_source(tmp_path / "set" / "train", 32)
    held = hold_out(
        tmp_path / "set", source, "key", 1, Bundle(tmp_path / "new"), lambda names: (*map(str.upper, names),)
    )
    assert (held.indexed, held.source, held.classes) == (source, None, ("CAT",))
    assert len(names(held.queries)) == 1
    assert names(held.queries) < {in_class_folders(1), in_class_folders(2)}


def test_nothing_is_held_out_where_nobody_asks(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    held = hold_out(tmp_path / "images", source, "key", 0, bundle)
    assert (held.indexed, held.queries) == (source, None)
    assert published(bundle, held) == {}


def test_the_queries_are_embedded_once_and_stay_the_same(tmp_path: Path, source: Source, bundle: Bundle) -> None:
    held = hold_out(tmp_path / "images", source, "key", 9, bundle)
    readable = names(held.queries) - {in_class_folders(BROKEN)}
    quality = published(bundle, held)
    assert quality["queries"] == len(readable)
    assert quality["certified"]["recall"]["value"] == 1
    assert quality["agreement"] is not None
    with closing(bundle.current()) as generation:
        queries = Queries.read(generation.path)
        assert queries is not None
        assert set(queries.names) == readable
        assert queries.labels == tuple(name.partition("/")[0] for name in queries.names)
        _, features = Embedder(network(), "cpu")(np.stack([_image(held, name) for name in queries.names]))
        np.testing.assert_allclose(queries.features, features, atol=1e-4)

    (tmp_path / "images" / "cat" / "0000a.png").write_bytes(image_file(99))
    grown = folder_source(tmp_path / "images", 32)
    again = hold_out(tmp_path / "images", grown, "key", 9, bundle)
    assert names(again.queries) == readable
    assert published(bundle, again, embedder=_no_network)["queries"] == len(readable)
    other = hold_out(tmp_path / "images", grown, "another key", 9, bundle)
    assert (other.indexed, other.queries) == (grown, None)
    assert published(bundle, other, embedder=_no_network)["queries"] == len(readable)


def test_queries_are_dropped_when_all_is_to_be_indexed_after_all(
    tmp_path: Path, source: Source, bundle: Bundle
) -> None:
    assert published(bundle, hold_out(tmp_path / "images", source, "key", 9, bundle))["queries"] > 0
    for key, is_measured in (("another key", True), ("key", False)):
        none = hold_out(tmp_path / "images", source, key, 0, bundle)
        assert none.indexed == source
        assert bool(published(bundle, none)) == is_measured
    again = hold_out(tmp_path / "images", source, "key", 9, bundle)
    assert len(names(again.queries)) == 9
    assert published(bundle, again)["queries"] > 0


def test_images_of_other_classes_and_none_that_can_be_read(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "odd" / "ant").mkdir(parents=True)
    (tmp_path / "odd" / "ant" / "a.png").write_bytes(image_file(1))
    held = HeldOut(folder_source(tmp_path / "odd", 32), folder_source(tmp_path / "odd", 32), ("ant",), None)
    quality = published(bundle, held)
    assert (quality["queries"], quality["agreement"]) == (1, None)
    assert "ant" not in CLASSES


def test_queries_of_which_none_can_be_read_measure_nothing(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.png").write_bytes(b"no image")
    source = folder_source(tmp_path / "odd", 32)
    assert published(bundle, HeldOut(source, source, (), None)) == {}


def _no_network(*_: object) -> None:
    raise AssertionError("the queries are there already")


def _image(held: HeldOut, name: str) -> Any:
    assert held.queries is not None
    (image,) = (item.image for item in held.queries.read(0, len(held.queries)) if item.name == name)
    return image
