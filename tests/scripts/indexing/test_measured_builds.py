"""build_index.py keeps queries out of what it indexes, and each generation that it publishes is measured with them."""

import csv
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index import Bundle
from index.queries import Queries
from model.data import held_out
from scripts.build_index import Config, job
from scripts.command import Refused
from tests.scripts.indexing.runs import names, photo, said

COUNT = 12  # images; a third is kept out
TENCH = "n01440764"  # a folder, whose class has another name in the index


@pytest.fixture
def collection(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(held_out, "SHARE", 3)
    for number in range(COUNT):
        photo(config.images / f"{number}.png", number)
    return config


def quality(bundle: Path) -> Mapping[str, Any]:
    with closing(Bundle(bundle).current()) as generation:
        return generation.manifest.quality


def queries(bundle: Path) -> set[str]:
    with closing(Bundle(bundle).current()) as generation:
        found = Queries.read(generation.path)
    return set(found.names) if found else set()


def indexed(bundle: Path) -> set[str]:
    return {name for several in names(bundle).values() for name in several}


def test_queries_are_kept_out_told_and_in_the_report(
    collection: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(replace(collection, report=tmp_path / "report.csv"), capsys)
    assert lines[1].startswith("8 inputs: 8 indexed")
    assert lines[2] == "4 images are not in it but measure it: --held-out 0 indexes them, too"
    assert lines[3].startswith(
        "4 held-out images: proven answers have the 6 nearest of all; measured ones have 100.00%"
    )
    out = queries(collection.bundle)
    assert len(out) == 4
    assert indexed(collection.bundle) == {f"{number}.png" for number in range(COUNT)} - out
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows if row["outcome"] == "held out"} == out
    assert len(rows) == COUNT


def test_later_generations_are_measured_with_the_same_queries(
    collection: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    job(collection)
    out = queries(collection.bundle)
    for number in range(COUNT, 3 * COUNT):
        photo(collection.images / f"{number}.png", number)
    job(collection)
    assert queries(collection.bundle) == out
    assert indexed(collection.bundle) == {f"{number}.png" for number in range(3 * COUNT)} - out
    (gone, *_) = names(collection.bundle)
    job(replace(collection, remove=(gone,)))
    assert quality(collection.bundle)["queries"] == 4
    other = collection.images.parent / "more"
    photo(other / "0.png", 99)
    job(replace(collection, images=Config.images, checkpoint=Config.checkpoint, add=other))
    assert quality(collection.bundle)["queries"] == 4
    (collection.images / min(indexed(collection.bundle) - {"0.png"})).unlink()
    job(replace(collection, missing=True))
    assert quality(collection.bundle)["queries"] == 4
    capsys.readouterr()


def test_all_can_be_indexed_after_all(collection: Config, capsys: pytest.CaptureFixture[str]) -> None:
    job(collection)
    capsys.readouterr()
    lines = said(replace(collection, held_out=0), capsys)
    assert indexed(collection.bundle) == {f"{number}.png" for number in range(COUNT)}
    assert (quality(collection.bundle), queries(collection.bundle)) == ({}, set())
    assert not any("measure" in line for line in lines)


def test_an_image_that_cannot_be_read_is_skipped_not_kept_out(
    collection: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    job(replace(collection, bundle=collection.bundle.with_name("first")))
    broken = min(queries(collection.bundle.with_name("first")))
    (collection.images / broken).write_bytes(b"no image")
    capsys.readouterr()
    assert f"  skipped {broken}: " in said(collection, capsys)[0]
    assert len(queries(collection.bundle)) == 3


def test_a_subfolder_val_measures_what_a_subfolder_train_holds(
    collection: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    data = collection.images.parent / "data"
    for number in range(8):
        photo(data / "train" / TENCH / f"{number}.png", number)
    photo(data / "val" / TENCH / "new.png", 50)
    photo(data / "val" / "dog" / "new.png", 51)
    job(replace(collection, images=data))
    assert len(indexed(collection.bundle)) == 8
    assert queries(collection.bundle) == {f"{TENCH}/new.png", "dog/new.png"}
    assert quality(collection.bundle)["agreement"]["value"] == 1  # of the one whose class is in the index
    assert "100.0% of them with the image's label" in capsys.readouterr().out


def test_fewer_than_no_queries_are_refused(collection: Config) -> None:
    with pytest.raises(Refused, match="--held-out -1"):
        job(replace(collection, held_out=-1))
