"""What the batch job says, does again and leaves alone; what it wrote stays, and no thread is left, however it ends."""

import errno
import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import files
from index import BadBundle, Bundle, Busy, DiskFull
from model import checkpoint
from model.data.folders import folder_source
from model.data.packing import pack
from model.embed import Embedder
from model.published import converted
from model.published.importing import imported
from model.published.tables import CAFFE, TORCHVISION
from scripts.build_index import Config, job
from scripts.command import Refused, parse
from scripts.indexing import growing
from scripts.indexing.growing import build, watched
from tests.images import encoded, photograph
from tests.index.blocks import contents
from tests.model.published.published_files import caffe_layers, narrow, new_caffemodel
from tests.model.test_checkpoint import made
from tests.model.test_collection import Collection
from tests.scripts.indexing.runs import said

pytestmark = pytest.mark.timeout(60)


def nothing(_: str, __: int, ___: int) -> None: ...


@pytest.mark.parametrize("error", [DiskFull, KeyboardInterrupt])
def test_a_build_that_ends_early_keeps_its_blocks_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    embedder, source, file = Embedder(made(), "cpu"), Collection(1100, broken=(3, 600)), tmp_path / "checkpoint"
    checkpoint.save(file, made())
    expected = contents(build(embedder, source, "images", Bundle(tmp_path / "unbroken"), file, nothing))
    written: list[int] = []

    def report(_: str, done: int, __: int) -> None:
        written.append(done)
        if done and error is KeyboardInterrupt:
            raise KeyboardInterrupt
        if done:
            monkeypatch.setattr(os, "fsync", full)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(error):
        build(embedder, source, "images", Bundle(tmp_path / "bundle"), file, report)
    monkeypatch.undo()
    assert written == [0, 512]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]
    told: list[tuple[str, int]] = []
    generation = build(
        embedder, source, "images", Bundle(tmp_path / "bundle"), file, lambda what, now, _: told.append((what, now))
    )
    assert [done for what, done in told if what == "embed"] == [512, 1024, 1100]
    assert contents(generation) == expected


def test_it_says_what_is_ignored_and_the_first_ten_that_are_skipped(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        (config.images / f"broken {number:02}.jpg").touch()
        (config.images / f"{number}.txt").touch()
    lines = said(config, capsys)
    assert lines[0] == f"{config.images}: 12 other files ignored (12 .txt)"
    assert [line.split(":")[0] for line in lines[1:11]] == [f"  skipped broken {number:02}.jpg" for number in range(10)]
    assert lines[11] == "  and 2 more, which --report FILE lists"
    assert lines[-1] == "3 images indexed, 12 skipped, 12 numbers each"
    assert len(Bundle(config.bundle).current().catalogue.skipped()) == 12


def test_it_says_that_a_subfolder_train_is_taken_for_the_whole(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.images / "train").mkdir()
    (config.images / "0.png").rename(config.images / "train" / "0.png")
    lines = said(config, capsys)
    assert lines[0] == f"{config.images}: its subfolder train alone, as a dataset's training images"
    assert lines[-1].startswith("1 images indexed")


def test_any_change_of_the_folder_is_noticed_and_nothing_else(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    said(config, capsys)
    (config.images / "notes.txt").touch()
    assert "generation 1 holds" in said(config, capsys)[1]
    (config.images / "notes.txt").unlink()
    about = (config.images / "1.png").stat()
    os.utime(config.images / "1.png", ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert "generation 2 published" in said(config, capsys)[0]
    (config.images / "3.png").write_bytes(encoded(photograph(seed=3)))
    assert "generation 3 published" in said(config, capsys)[0]
    (config.images / "3.png").unlink()
    assert "generation 4 published" in said(config, capsys)[0]
    (config.images / "2.png").rename(config.images / "4.png")
    assert "generation 5 published" in said(config, capsys)[0]
    assert "generation 5 holds" in said(config, capsys)[0]
    names = [Bundle(config.bundle).current().catalogue.image(image_id).name for image_id in range(3)]
    assert names == ["0.png", "1.png", "4.png"]


def test_a_long_look_at_the_files_shows_how_far_it_is(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    source, told = folder_source(config.images, 18), list[tuple[str, int, int]]()
    for moment in (60.0, -1.0):
        monkeypatch.setattr(growing, "MOMENT", moment)
        assert told == []
        with watched(source, lambda *at: told.append(at)) as looked_at:
            assert looked_at(0, 2) == source.identity(0, 2)
    assert told == [("check", 2, 0), ("check", 2, 2)]  # of 3: the meter is closed wherever the look ends


def test_only_broken_images_are_one_line_with_the_first_reason(config: Config) -> None:
    for file in config.images.iterdir():
        file.write_bytes(b"<html>")
    with pytest.raises(BadBundle, match=r"none of the 3 images could be read, the first: 0\.png: not an image"):
        job(config)
    assert not (config.bundle / "CURRENT").exists()


def test_folders_called_by_an_id_have_its_word_and_others_the_name_in_a_file(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for seed, folder in enumerate(("n03417042", "IMG_2019"), 100):
        (config.images / folder).mkdir()
        (config.images / folder / "1.png").write_bytes(encoded(photograph(seed=seed)))
    assert "generation 1 published" in said(config, capsys)[0]
    assert Bundle(config.bundle).current().manifest.classes == ("IMG_2019", "garbage truck")
    (tmp_path / "names.csv").write_text("IMG_2019,Lisbon")
    named = replace(config, class_names=tmp_path / "names.csv")
    assert "generation 2 published" in said(named, capsys)[0]
    generation = Bundle(config.bundle).current()
    assert generation.manifest.classes == ("IMG_2019", "garbage truck", "Lisbon")  # a class keeps its number
    assert sorted(generation.catalogue.labels().tolist()) == [-1, -1, -1, 1, 2]
    assert "nothing to do" in said(named, capsys)[0]
    pack(tmp_path / "packed", {"train": folder_source(config.images, 18)})
    with pytest.raises(Refused, match=r"--class-names is for a folder of images: .*packed was packed with"):
        job(replace(named, images=tmp_path / "packed"))


def test_a_published_network_is_converted_and_used(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = partial(imported, caffe=narrow(CAFFE), torchvision=narrow(TORCHVISION))
    monkeypatch.setattr(converted, "imported", tables)
    (tmp_path / "weights.caffemodel").write_bytes(new_caffemodel(caffe_layers(24, 16, 3)))
    published = replace(
        config,
        checkpoint=Config.checkpoint,
        weights=str(tmp_path / "weights.caffemodel"),
        weights_folder=tmp_path / "kept",
    )
    assert said(published, capsys)[-1] == "3 images indexed, 0 skipped, 16 numbers each"
    assert checkpoint.load(Bundle(config.bundle).current().checkpoint).table.name == "caffe"
    with pytest.raises(Refused, match="give --checkpoint or --weights, not both"):
        job(replace(published, checkpoint=config.checkpoint))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"list": True, "prune": True}, "--list and --prune: one at a time"),
        ({"add": Path("x"), "remove": (1,), "missing": True}, "--add and --remove and --missing: one at a time"),
        ({"add": Path("x"), "images": Path("y")}, "--images with --add: what is added is named by --add"),
        ({"add": Path("x"), "checkpoint": Path("y")}, "--checkpoint with --add: "),
        ({"add": Path("x"), "weights": "bvlc"}, "--weights with --add: "),
        ({"add": Path("x"), "precision": "bfloat16"}, "--precision with --add: "),
        ({"add": Path("x"), "map": "none"}, "--map with --add: "),
        ({"checkpoint": Path("x"), "weights": "bvlc"}, "give --checkpoint or --weights, not both"),
        ({"remove": ()}, "--remove takes the ids of the images"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(tmp_path: Path, flags: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        job(Config(bundle=tmp_path / "bundle", **flags))
    assert not (tmp_path / "bundle").exists()


def test_ids_are_words_behind_the_flag() -> None:
    assert parse(Config, ["--remove", "17", "18"], {}).remove == (17, 18)
    assert parse(Config, ["--remove"], {}).remove == ()
    assert parse(Config, [], {}).remove is None
    with pytest.raises(Refused, match="--remove"):
        parse(Config, ["--remove", "x"], {})


@pytest.mark.parametrize("flags", [{}, {"remove": (0,)}, {"rollback": True}, {"prune": True}])
def test_two_that_change_a_bundle_at_once_are_refused(config: Config, flags: dict[str, Any]) -> None:
    job(config)
    (config.images / "0.png").unlink()
    with files.locked(config.bundle / "lock"), pytest.raises(Busy):
        job(replace(config, **flags))
    assert Bundle(config.bundle).current().number == 1
