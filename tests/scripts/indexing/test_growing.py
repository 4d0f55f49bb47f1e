"""A bundle is brought up to date: what is new is embedded, and nothing else is."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index import BadBundle, Bundle
from model import checkpoint
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.splits import folder_splits
from model.embed import Embedder
from scripts.build_index import Config, job
from scripts.command import Refused
from tests.model.data.test_shards import write
from tests.scripts.indexing.runs import names, photo, said

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the network has seen, in each of its passes."""
    seen, call = list[int](), Embedder.__call__

    def counting(self: Embedder, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Embedder, "__call__", counting)
    return seen


def test_only_what_is_new_is_embedded_and_what_is_renamed_keeps_its_id(
    config: Config, capsys: pytest.CaptureFixture[str], embedded: list[int]
) -> None:
    job(config)
    assert (sum(embedded), names(config.bundle)) == (3, {0: ("0.png",), 1: ("1.png",), 2: ("2.png",)})
    (config.images / "1.png").rename(config.images / "z.png")
    (config.images / "2.png").unlink()
    photo(config.images / "copy.png", 0)
    photo(config.images / "new.png", 9)
    capsys.readouterr()
    lines = said(config, capsys)
    assert sum(embedded) == 4
    assert lines[1:] == [
        "4 inputs: 1 indexed, 1 equal to another, 0 skipped, 2 kept, 0 removed by id before",
        "1 images removed, 1 renamed",
        "3 images indexed, 0 skipped, 12 numbers each",
    ]
    assert names(config.bundle) == {0: ("0.png", "copy.png"), 1: ("z.png",), 4: ("new.png",)}
    os.utime(config.images / "0.png", ns=(0, 5))
    assert "3 kept" in said(config, capsys)[1]
    assert sum(embedded) == 4


def test_a_second_folder_is_added_and_each_is_looked_at_alone(
    config: Config, capsys: pytest.CaptureFixture[str], embedded: list[int], tmp_path: Path
) -> None:
    (config.images / "broken.png").touch()
    job(config)
    photo(tmp_path / "more" / "0.png", 1)
    photo(tmp_path / "more" / "cats" / "1.png", 7)
    add = Config(bundle=config.bundle, device="cpu", add=tmp_path / "more")
    capsys.readouterr()
    assert said(add, capsys)[1] == "2 inputs: 1 indexed, 1 equal to another, 0 skipped, 0 kept, 0 removed by id before"
    assert sum(embedded) == 4
    added = {0: ("0.png",), 1: ("1.png", "0.png"), 2: ("2.png",), 4: ("cats/1.png",)}
    assert names(config.bundle) == added
    assert "nothing to do" in said(config, capsys)[1]
    assert "nothing to do" in said(add, capsys)[0]
    (config.images / "2.png").unlink()
    job(config)
    del added[2]
    assert names(config.bundle) == added


def test_what_is_added_is_mapped_as_the_others_are(config: Config, tmp_path: Path) -> None:
    job(replace(config, map="none"))
    photo(tmp_path / "more" / "0.png", 7)
    add = Config(bundle=config.bundle, device="cpu", add=tmp_path / "more")
    job(add)
    assert Bundle(config.bundle).current().positions() is None
    job(config)
    photo(tmp_path / "more" / "1.png", 8)
    job(add)
    positions = Bundle(config.bundle).current().positions()
    assert positions is not None
    assert len(positions) == 5


def test_other_images_in_place_of_those_that_are_there_are_refused(config: Config, tmp_path: Path) -> None:
    job(config)
    photo(tmp_path / "more" / "0.png", 1)
    with pytest.raises(Refused, match=r"it holds the images of .*images; --add .*more adds these to them; another"):
        job(replace(config, images=tmp_path / "more"))
    assert len(names(config.bundle)) == 3


def test_a_folder_that_was_moved_is_added_and_missed_without_the_network(
    config: Config, capsys: pytest.CaptureFixture[str], embedded: list[int], tmp_path: Path
) -> None:
    job(config)
    moved = config.images.rename(tmp_path / "moved")
    with pytest.raises(Refused, match=r"--add .*moved adds these to them; where they were moved, --missing then drops"):
        job(replace(config, images=moved))
    job(Config(bundle=config.bundle, device="cpu", add=moved))
    job(Config(bundle=config.bundle, missing=True))
    capsys.readouterr()
    assert said(Config(bundle=config.bundle, missing=True), capsys)[0].endswith("3 misses no file: nothing to do")
    assert names(config.bundle) == {0: ("0.png",), 1: ("1.png",), 2: ("2.png",)}
    assert sum(embedded) == 3


def test_another_network_makes_all_anew_and_says_whose_images_it_leaves_out(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job(config)
    photo(tmp_path / "more" / "0.png", 7)
    job(Config(bundle=config.bundle, device="cpu", add=tmp_path / "more"))
    capsys.readouterr()
    lines = said(replace(config, precision="bfloat16", engine="torch"), capsys)
    assert lines[0].startswith(f"{tmp_path / 'more'}: its images are left out, because another network")
    assert "generation 3 published" in lines[1]
    assert list(names(config.bundle).values()) == [("0.png",), ("1.png",), ("2.png",)]


def test_what_is_added_goes_through_the_bundles_own_network(config: Config, tmp_path: Path) -> None:
    job(replace(config, precision="bfloat16", engine="torch"))
    photo(tmp_path / "more" / "0.png", 7)
    add = Config(bundle=config.bundle, device="cpu", add=tmp_path / "more")
    config.checkpoint.unlink()
    job(replace(add, engine="torch"))
    assert len(names(config.bundle)) == 4
    assert checkpoint.load(Bundle(config.bundle).current().checkpoint).recipe.precision == "bfloat16"


def test_another_engine_does_not_add(config: Config, tmp_path: Path) -> None:
    job(replace(config, engine="torch"))
    photo(tmp_path / "more" / "0.png", 7)
    with pytest.raises(Refused, match="computed by torch, not openvino: give --engine torch"):
        job(Config(bundle=config.bundle, device="cpu", engine="openvino", add=tmp_path / "more"))


def test_what_cannot_be_added_is_refused_and_what_is_there_stays(config: Config, tmp_path: Path) -> None:
    add = Config(bundle=config.bundle, device="cpu", add=tmp_path / "nowhere")
    with pytest.raises(BadBundle, match="no index here"):
        job(add)
    job(config)
    before = names(config.bundle)
    with pytest.raises(BadDataset, match="nowhere: not a folder"):
        job(add)
    photo(tmp_path / "classes" / "c" / "0.png", 7)
    pack(tmp_path / "packed", folder_splits(tmp_path / "classes", 20, 0.0))
    with pytest.raises(BadDataset, match="images of 20 pixels where the network's recipe stores 18"):
        job(replace(add, add=tmp_path / "packed"))
    assert names(config.bundle) == before


def test_what_a_dying_disk_does_not_list_is_not_dropped(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    job(config)
    really = os.scandir

    @contextmanager
    def dying(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        def some(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
            yield next(entries)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with really(path) as entries:
            yield some(entries)

    monkeypatch.setattr("model.data.listing.os.scandir", dying)
    for again in (config, Config(bundle=config.bundle, missing=True)):
        with pytest.raises(Refused, match=r"^\.: cannot be looked into: Input/output error; .*would be dropped"):
            job(again)
    assert len(names(config.bundle)) == 3


def test_what_was_in_a_shard_that_is_damaged_now_is_not_dropped(config: Config, tmp_path: Path) -> None:
    members = [(f"{n}.png", photo(tmp_path / f"{n}.png", n).read_bytes()) for n in range(3)]
    shards = replace(config, images=write(tmp_path / "shards" / "a.tar", *members).parent)
    write(tmp_path / "shards" / "b.tar", ("5.png", photo(tmp_path / "5.png", 5).read_bytes()))
    job(shards)
    before = names(config.bundle)
    os.truncate(tmp_path / "shards" / "a.tar", 1000)
    with pytest.raises(
        Refused, match=r"a\.tar: ends within 0\.png; .*; a\.tar/0\.png and all else that was found in it"
    ):
        job(shards)
    with pytest.raises(Refused, match=r"a\.tar: ends within"):
        job(Config(bundle=config.bundle, missing=True))
    assert names(config.bundle) == before
    (tmp_path / "shards" / "a.tar").unlink()
    job(shards)
    assert list(names(config.bundle).values()) == [("b.tar/5.png",)]
