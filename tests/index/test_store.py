"""A bundle's generations: what is published, kept, listed, gone back to and removed."""

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle, Bundle, Busy, Layout, NoSuchImage, Published
from index.bundle_folder import BundleFolder
from tests.index.blocks import (
    CLASSES,
    INPUTS,
    TOTAL,
    WIDTH,
    Files,
    Run,
    begun,
    blocks,
    build,
    changes,
    collection,
    contents,
)
from tests.test_files import traced


def other(name: str) -> Run:
    """Return a run with another network."""
    return Run({**INPUTS, "weights": name})


def test_what_was_appended_is_what_is_read(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    everything = list(blocks())
    ids = np.concatenate([b.ids for b in everything])
    np.testing.assert_array_equal(generation.ids, ids)
    (segment,) = generation.segments
    np.testing.assert_array_equal(segment.features, np.concatenate([b.features for b in everything]))
    np.testing.assert_array_equal(segment.ids, ids)
    assert segment.features.dtype == np.float32
    assert segment.features.flags.c_contiguous
    labels = [entry.label for b in everything for entry in b.entries if entry.content]
    np.testing.assert_array_equal(generation.catalogue.labels(), labels)
    assert generation.checkpoint.read_bytes() == checkpoint.read_bytes()
    assert len(generation.catalogue.skipped()) == len(range(0, TOTAL, 7))
    manifest = generation.manifest
    assert (manifest.number, manifest.rows, manifest.width) == (1, len(ids), WIDTH)
    assert (manifest.classes, dict(manifest.inputs), manifest.engine) == (CLASSES, INPUTS, "torch")
    assert (manifest.segments, Layout(**manifest.index), manifest.next_id) == (("0001",), Layout(), TOTAL)
    assert manifest.ledger == {
        "inputs": TOTAL,
        "indexed": len(ids),
        "duplicate": 0,
        "skipped": TOTAL - len(ids),
        "kept": 0,
        "excluded": 0,
        "removed": 0,
        "renamed": 0,
    }
    assert set(manifest.parts) == set(contents(generation))
    assert not (path / "building").exists()
    assert Bundle(path).current(verify=True).manifest == manifest


def test_rows_are_those_of_the_ids_that_are_asked_for(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    everything = {image_id: row for b in blocks() for image_id, row in zip(b.ids.tolist(), b.features, strict=True)}
    wanted = [229, 1, 8, 1]
    np.testing.assert_array_equal(generation.rows(wanted), [everything[image_id] for image_id in wanted])
    assert generation.rows([]).shape == (0, WIDTH)
    for image_id in (7, TOTAL, -1, 2**62):
        with pytest.raises(NoSuchImage, match=f"no image {image_id}"):
            generation.rows([1, image_id])


def test_a_bundle_may_lie_at_a_path_that_is_no_text(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 ?#%")
    source = Files(collection().files, key=str(path))
    generation = build(path, checkpoint, source)
    assert contents(Bundle(path).current(verify=True)) == contents(generation)
    assert generation.catalogue.image(8).label == "frog"
    assert generation.catalogue.sources() == [str(path)]
    assert changes(path, source).empty
    assert generation.catalogue.skipped()[0].source == str(path)
    assert not generation.catalogue.excludes(str(path))
    Bundle(path).forget({str(path): [source.files[8].name]})
    assert Bundle(path).current().catalogue.gone()[0].source == str(path)
    assert (
        Bundle(path).remove(generation.ids[10:90].tolist()).segments[0].name == "0003"
    )  # compaction reads the old one


def test_the_names_of_new_folders_are_on_the_disk_before_what_names_them(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not take away a folder of a bundle whose CURRENT, or a build whose plan, is there."""
    events = traced(monkeypatch)
    build(tmp_path / "bundles" / "new", checkpoint)
    assert events[:3] == [f"sync {tmp_path.name}", "sync bundles", "sync new"]  # names of bundles, new and building
    begun, done = events.index("rename to plan.json"), events.index("rename to CURRENT")
    assert {"sync building", "sync features.npy", "sync work.sqlite"} <= set(events[3:begun])
    named = events.index("rename to manifest.json")
    for file in contents(Bundle(tmp_path / "bundles" / "new").current()):
        assert f"sync {Path(file).name}" in events[begun:named]
    assert {"sync 0001", "sync segments", "sync generation"} <= set(events[begun:named])
    next_named = events.index("rename to NEXT")
    assert next_named > named
    assert events[next_named + 1 : done] == ["sync new", "sync building", "sync generations", "sync CURRENT.part"]


def test_the_features_are_an_ordinary_npy_file(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    features = np.load(generation.path / "segments/0001/features.npy")
    np.testing.assert_array_equal(features, generation.rows(generation.ids))


@pytest.mark.parametrize("file", ["catalogue.sqlite", "segments/0001/thumbnails.sqlite"])
def test_what_is_published_is_an_ordinary_database(path: Path, checkpoint: Path, file: str) -> None:
    connection = sqlite3.connect(build(path, checkpoint).path / file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_three_generations_are_kept_and_an_old_one_stays_readable(path: Path, checkpoint: Path) -> None:
    first = build(path, checkpoint)
    for name in "abc":
        build(path, checkpoint, run=other(name))
    assert sorted(p.name for p in (path / "generations").iterdir()) == ["0002", "0003", "0004"]
    np.testing.assert_array_equal(first.rows(first.ids), np.concatenate([b.features for b in blocks()]))
    assert first.catalogue.image(1).name == "dog/0001.png"


def test_roll_back_goes_to_the_one_before_and_the_next_build_forgets_the_rejected(path: Path, checkpoint: Path) -> None:
    for name in "abc":
        build(path, checkpoint, run=other(name))
    assert Bundle(path).roll_back().number == 2
    assert Bundle(path).current().number == 2
    assert build(path, checkpoint, run=other("d")).number == 4
    assert Bundle(path).roll_back().number == 2
    assert Bundle(path).roll_back().number == 1
    with pytest.raises(BadBundle, match="no generation before"):
        Bundle(path).roll_back()


def test_roll_back_passes_over_a_generation_that_cannot_be_opened(path: Path, checkpoint: Path) -> None:
    for name in "abc":
        build(path, checkpoint, collection(10), other(name))
    (path / "generations/0002/removed.npy").unlink()
    assert Bundle(path).roll_back().number == 1
    build(path, checkpoint, collection(10), other("d"))
    (path / "generations/0001/removed.npy").unlink()
    with pytest.raises(BadBundle, match=r"0001/removed\.npy: missing"):
        Bundle(path).roll_back()
    assert Bundle(path).current(verify=True).number == 4


def test_a_bundle_that_is_not_there_is_told_and_not_made(path: Path) -> None:
    bundle = Bundle(path)
    for change in (bundle.current, bundle.roll_back, bundle.prune, lambda: bundle.remove([1])):
        with pytest.raises(BadBundle, match=f"{path}: no index here"):
            change()
    assert not path.exists()


def test_a_reader_whose_generation_is_removed_before_it_opens_it_gets_the_next(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        build(path, checkpoint, collection(10), other(name))
    assert Bundle(path).prune() == [1]
    said = iter([1, 2, 2])
    monkeypatch.setattr(BundleFolder, "current", lambda _: next(said))
    assert Bundle(path).current().number == 2
    monkeypatch.setattr(BundleFolder, "current", lambda _: 1)
    with pytest.raises(BadBundle, match="generations/0001"):
        Bundle(path).current()


def test_a_generation_that_cannot_be_deleted_yet_is_deleted_later(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS a file that is open stays, under another name, and its folder with it."""
    rmtree = shutil.rmtree

    def in_use(folder: Path, ignore_errors: bool = False) -> None:
        if not folder.name.startswith(".gone"):
            rmtree(folder, ignore_errors)
        elif not ignore_errors:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", in_use)
        for number, name in enumerate("abcde", 1):
            assert build(path, checkpoint, collection(10), other(name)).number == number
        with pytest.raises(BadBundle, match=r"gone-000.: not all of it can be deleted: is a file of it in use\?$"):
            Bundle(path).prune()
    assert Bundle(path).prune() == []
    assert [folder.name for folder in (path / "generations").iterdir()] == ["0005"]


def test_the_generations_are_listed_and_pruned(path: Path, checkpoint: Path) -> None:
    assert Bundle(path).generations() == []
    made = [build(path, checkpoint, run=other(name)).manifest for name in "abc"]
    (path / "generations/0001/manifest.json").write_text("{")
    Bundle(path).roll_back()
    first, *others = Bundle(path).generations()
    assert others == [Published(m.number, m.number == 2, m.created, m.rows) for m in made[1:]]
    assert (first.number, first.is_current) == (1, False)
    assert "not a manifest" in str(first.problem)
    assert Bundle(path).prune() == [1, 3]
    assert Bundle(path).generations() == [Published(2, True, made[1].created, made[1].rows)]
    assert Bundle(path).prune() == []


def test_nothing_is_pruned_where_the_current_generation_cannot_be_opened(path: Path, checkpoint: Path) -> None:
    for name in "ab":
        build(path, checkpoint, run=other(name))
    (path / "generations/0002/removed.npy").unlink()
    with pytest.raises(BadBundle, match=r"removed\.npy: missing"):
        Bundle(path).prune()
    assert [generation.number for generation in Bundle(path).generations()] == [1, 2]


def test_neither_numbers_nor_image_ids_are_given_again(path: Path, checkpoint: Path) -> None:
    """Not after a roll-back, nor when what was rejected is removed, nor for another network."""
    build(path, checkpoint, collection(20))
    build(path, checkpoint, collection(30))
    Bundle(path).roll_back()
    Bundle(path).prune()
    generation = build(path, checkpoint, collection(30))
    assert (generation.number, generation.ids[-9:].tolist()) == (3, [19, 30, 32, 33, 34, 35, 36, 37, 39])
    generation = build(path, checkpoint, collection(10), other("network"))
    assert generation.ids.tolist() == [41, 42, 43, 44, 45, 46, 48, 49]
    (path / "NEXT").unlink()  # as in a copy of what CURRENT names
    generation = build(path, checkpoint, collection(20), other("network"))
    assert (generation.number, generation.ids[8:].tolist()) == (5, [50, 51, 52, 53, 55, 56, 57, 58, 59])


def test_a_change_and_a_roll_back_wait_for_no_other_process(path: Path, checkpoint: Path) -> None:
    build(path, checkpoint)
    found = changes(path, collection(240))
    Bundle(path).remove([1])
    with pytest.raises(Busy, match="generation 2 is current now, not 1; run it again"):
        Bundle(path).begin(
            INPUTS,
            checkpoint,
            changes=found,
            identity=collection(240).subset(found.new).identity,
            width=WIDTH,
            engine="torch",
            classes=CLASSES,
        )
    with begun(path, checkpoint, collection(240)):
        for change in (lambda: Bundle(path).remove([2]), Bundle(path).prune, Bundle(path).roll_back):
            with pytest.raises(Busy, match="another process is building"):
                change()
