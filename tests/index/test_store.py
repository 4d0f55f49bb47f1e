"""A bundle's generations: published ones are complete, unfinished ones continue."""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle, Bundle, Busy, DiskFull, Generation
from index.bundle_folder import BundleFolder
from tests.index.blocks import BLOCK, CLASSES, INPUTS, TOTAL, WIDTH, begun, block, blocks, build, contents, identity
from tests.test_files import traced


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"weights and all")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def other(name: str) -> dict[str, str]:
    return {**INPUTS, "weights": name}


def test_what_was_appended_is_what_is_read(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    everything = list(blocks())
    np.testing.assert_array_equal(generation.features, np.concatenate([b.features for b in everything]))
    np.testing.assert_array_equal(generation.ids, np.concatenate([b.ids for b in everything]))
    np.testing.assert_array_equal(generation.catalogue.labels(), np.concatenate([b.labels for b in everything]))
    assert generation.features.dtype == np.float32
    assert generation.features.flags.c_contiguous
    assert generation.checkpoint.read_bytes() == b"weights and all"
    assert [s.image_id for s in generation.catalogue.skipped()] == list(range(0, TOTAL, 7))
    manifest = generation.manifest
    assert (manifest.number, manifest.rows, manifest.width) == (1, len(generation.ids), WIDTH)
    identities = "".join(b.identity for b in everything)
    images = hashlib.sha256(identities.encode()).hexdigest()
    assert (manifest.classes, dict(manifest.inputs)) == (CLASSES, {**INPUTS, "images": images})
    assert set(manifest.fingerprints) == {"weights", "recipe", "images", "features", "ids", "catalogue", "checkpoint"}
    assert not (path / "building").exists()
    assert Bundle(path).current(verify=True).manifest == manifest


def test_a_bundle_may_lie_at_a_path_that_is_no_text(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    generation = build(path, checkpoint)
    assert contents(Bundle(path).current(verify=True)) == contents(generation)


def test_the_names_of_new_folders_are_on_the_disk_before_what_names_them(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not take away a folder of a bundle whose CURRENT, or a build whose plan, is there."""
    events = traced(monkeypatch)
    build(tmp_path / "bundles" / "new", checkpoint)
    assert events[:3] == [f"sync {tmp_path.name}", "sync bundles", "sync new"]  # names of bundles, new and building
    begun, done = events.index("rename to plan.json"), events.index("rename to CURRENT")
    assert {"sync building", "sync generation"} <= set(events[3:begun])
    published = events[done - 4 : done]
    assert published == ["sync new", "sync generations", "sync building", "sync CURRENT.part"]


def test_the_features_are_an_ordinary_npy_file(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    np.testing.assert_array_equal(np.load(generation.path / "features.npy"), generation.features)


def test_a_build_goes_on_after_the_blocks_that_are_done(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    for _ in range(3):
        with begun(path, checkpoint) as building:
            embedded = next(blocks(building.done))
            building.append(embedded)
            assert building.done == embedded.stop
    with (path / "building/generation/features.npy").open("ab") as file:
        file.write(b"what a killed process wrote of the next block")
    assert contents(build(path, checkpoint)) == contents(build(tmp_path / "unbroken", checkpoint))


def test_what_a_killed_process_wrote_of_a_block_is_not_published(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    with begun(path, checkpoint, total=20) as building:
        for embedded in blocks(0, 20):
            building.append(embedded)
        with (path / "building/generation/features.npy").open("ab") as file:
            file.write(b"of a block whose images have gone")
        generation = building.publish()
    assert contents(generation) == contents(build(tmp_path / "unbroken", checkpoint, total=20))


def test_a_build_of_something_else_starts_over(path: Path, checkpoint: Path) -> None:
    for changed in (
        {"inputs": other("elsewhere")},
        {"identity": lambda start, stop: f"others {start} to {stop}"},
        {"width": WIDTH + 1},
        {"classes": ("cat", "dog")},
        {"engine": "openvino"},
    ):
        usual = {
            "inputs": INPUTS,
            "total": TOTAL,
            "identity": identity,
            "width": WIDTH,
            "engine": "torch",
            "classes": CLASSES,
        }
        with begun(path, checkpoint) as building:
            building.append(block(0, 10))
        with Bundle(path).begin(checkpoint=checkpoint, **{**usual, **changed}) as building:  # type: ignore[arg-type]
            assert building.done == 0


def test_blocks_that_do_not_fit_are_refused(path: Path, checkpoint: Path) -> None:
    good = block(0, 10)
    wrong = {
        "follow": block(10, 20),
        "follow the": block(0, TOTAL + 1),
        "skipped": replace(good, skipped=()),
        "ascending": replace(good, ids=good.ids[::-1].copy()),
        "float32": replace(good, features=good.features.astype(np.float64)),
        "should be": replace(good, features=good.features[1:]),
        "as many": replace(good, thumbnails=good.thumbnails[1:]),
        "finite": replace(good, features=good.features * np.float32(np.nan)),
    }
    with begun(path, checkpoint) as building:
        for message, embedded in wrong.items():
            with pytest.raises(BadBundle, match=message):
                building.append(embedded)
            assert building.done == 0
        building.append(good)


def test_publishing_too_early_or_nothing_is_refused(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint, total=20) as building:
        building.append(block(0, 10))
        with pytest.raises(BadBundle, match="only 10 of 20"):
            building.publish()
    with begun(path, checkpoint, other("network"), total=10) as building:
        building.append(block(0, 10, lost=1))
        with pytest.raises(
            BadBundle, match=r"none of the 10 images could be read, the first: cat/0000\.png: truncated"
        ):
            building.publish()
    with pytest.raises(BadBundle, match="no index here"):
        Bundle(path).current()


def test_inputs_must_name_weights_and_recipe(path: Path) -> None:
    with pytest.raises(BadBundle, match="recipe and weights"):
        Bundle(path).begin({"images": "i"}, path, total=1, identity=identity, width=1, engine="torch", classes=())


def test_a_second_build_at_once_is_refused(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint):
        with pytest.raises(Busy, match="another process is building"):
            begun(path, checkpoint)
        with pytest.raises(Busy):
            Bundle(path).roll_back()
    build(path, checkpoint)


def test_no_other_build_starts_while_the_finished_one_is_cleared_away(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        build(path, checkpoint, other(name))
    removed: list[str] = []
    rmtree = shutil.rmtree

    def second_builder(folder: Path, ignore_errors: bool = False) -> None:
        with pytest.raises(Busy):
            begun(path, checkpoint, other("second"))
        removed.append(folder.name)
        rmtree(folder, ignore_errors)

    with begun(path, checkpoint, other("first"), 10) as building:
        building.append(block(0, 10))
        monkeypatch.setattr(shutil, "rmtree", second_builder)
        building.publish()
        monkeypatch.undo()
        assert removed == ["building", ".gone-0001"]
        begun(path, checkpoint, other("second")).close()  # the lock is free


def test_a_build_that_cannot_be_published_keeps_its_lock(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint, total=10) as building:
        building.append(block(0, 10))
        checkpoint.unlink()
        with pytest.raises(BadBundle, match=checkpoint.name):
            building.publish()
        checkpoint.touch()
        with pytest.raises(Busy):
            begun(path, checkpoint, total=10)


def test_holds_tells_whether_there_is_work_to_do(path: Path, checkpoint: Path) -> None:
    assert not Bundle(path).holds(INPUTS, TOTAL, identity)
    generation = build(path, checkpoint)
    assert Bundle(path).holds(INPUTS, TOTAL, identity)
    assert not Bundle(path).holds(other("elsewhere"), TOTAL, identity)
    for total in (TOTAL - BLOCK, TOTAL + BLOCK):
        assert not Bundle(path).holds(INPUTS, total, identity)
    assert not Bundle(path).holds(INPUTS, TOTAL - BLOCK, changed_at(TOTAL - 1))  # the last block's images are gone
    for changed in (0, TOTAL - 1):
        assert not Bundle(path).holds(INPUTS, TOTAL, changed_at(changed))
    (generation.path / "features.npy").write_bytes(b"")
    assert not Bundle(path).holds(INPUTS, TOTAL, identity)


def test_a_generation_from_before_blocks_were_recorded_is_read_and_made_anew(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    catalogue = generation.path / "catalogue.sqlite"
    connection = sqlite3.connect(catalogue)
    connection.executescript("DROP TABLE blocks")
    connection.close()
    manifest = generation.path / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "sizes": {**fields["sizes"], "catalogue": catalogue.stat().st_size}}))
    assert Bundle(path).current().catalogue.image(1).name == "dog/0001.png"
    assert not Bundle(path).holds(INPUTS, TOTAL, identity)
    assert build(path, checkpoint).number == 2


@pytest.mark.parametrize(("changed", "kept"), [(0, 0), (19, 10), (20, 20), (49, 30)])
def test_a_build_goes_on_after_the_last_block_whose_images_are_as_they_were(
    path: Path, checkpoint: Path, tmp_path: Path, changed: int, kept: int
) -> None:
    with begun(path, checkpoint) as building:
        for start in range(0, 30, BLOCK):
            building.append(block(start, start + BLOCK))
    total = 50  # of 230 when it began
    arguments = {
        "total": total,
        "identity": changed_at(changed),
        "width": WIDTH,
        "engine": "torch",
        "classes": CLASSES,
    }
    with Bundle(path).begin(INPUTS, checkpoint, **arguments) as building:  # type: ignore[arg-type]
        assert building.done == kept
        for embedded in blocks(kept, total):
            building.append(replace(embedded, identity=changed_at(changed)(embedded.start, embedded.stop)))
        generation = building.publish()
    with Bundle(tmp_path / "unbroken").begin(INPUTS, checkpoint, **arguments) as building:  # type: ignore[arg-type]
        for embedded in blocks(0, total):
            building.append(replace(embedded, identity=changed_at(changed)(embedded.start, embedded.stop)))
        assert contents(generation) == contents(building.publish())


@pytest.mark.parametrize(("changed", "total"), [(15, TOTAL), (TOTAL, TOTAL + BLOCK)])  # one changed; some are new
def test_images_that_changed_after_a_kill_between_publish_and_point_are_embedded_anew(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, changed: int, total: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BundleFolder, "point", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            build(path, checkpoint)
    arguments = {"total": total, "identity": changed_at(changed), "width": WIDTH, "engine": "torch", "classes": CLASSES}
    with Bundle(path).begin(INPUTS, checkpoint, **arguments) as building:  # type: ignore[arg-type]
        assert (building.done, building.plan.number) == (0, 2)
        for embedded in blocks(0, total):
            building.append(embedded)
        assert building.publish().number == 2


def changed_at(image_id: int) -> Callable[[int, int], str]:
    """Return the identities of the collection after one image has changed."""
    return lambda start, stop: identity(start, stop) + " changed" * (start <= image_id < stop)


def test_three_generations_are_kept_and_an_old_one_stays_readable(path: Path, checkpoint: Path) -> None:
    first = build(path, checkpoint)
    for name in "abc":
        build(path, checkpoint, other(name))
    assert sorted(p.name for p in (path / "generations").iterdir()) == ["0002", "0003", "0004"]
    np.testing.assert_array_equal(first.features, np.concatenate([b.features for b in blocks()]))
    assert first.catalogue.image(1).name == "dog/0001.png"


def test_roll_back_goes_to_the_one_before_and_the_next_build_forgets_the_rejected(path: Path, checkpoint: Path) -> None:
    for name in "abc":
        build(path, checkpoint, other(name))
    assert Bundle(path).roll_back().number == 2
    assert Bundle(path).current().number == 2
    assert build(path, checkpoint, other("d")).number == 4
    assert Bundle(path).roll_back().number == 2
    assert Bundle(path).roll_back().number == 1
    with pytest.raises(BadBundle, match="no generation before"):
        Bundle(path).roll_back()


@pytest.mark.parametrize("part", ["features", "ids", "catalogue", "checkpoint"])
def test_damage_is_told_by_part(path: Path, checkpoint: Path, part: str) -> None:
    generation = build(path, checkpoint)
    file = next(f for f in generation.path.iterdir() if f.stem == part)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadBundle, match=f"the {part} file is not the one that was published"):
        Bundle(path).current(verify=True)
    file.write_bytes(whole[:-1])
    with pytest.raises(BadBundle, match=f"the {part} file has"):
        Bundle(path).current()
    file.unlink()
    with pytest.raises(BadBundle, match=f"the {part} file is missing"):
        Bundle(path).current()


def test_a_manifest_that_does_not_name_its_engine_is_of_torch(path: Path, checkpoint: Path) -> None:
    manifest = build(path, checkpoint).path / "manifest.json"
    fields = json.loads(manifest.read_text())
    assert fields.pop("engine") == "torch"
    manifest.write_text(json.dumps(fields))
    assert Bundle(path).current().manifest.engine == "torch"


def test_damaged_bookkeeping_is_told(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    manifest = generation.path / "manifest.json"
    fields = json.loads(manifest.read_text())
    for text, message in [
        ("{", "not a manifest"),
        (json.dumps({**fields, "format": 2}), "its format is 2"),
        (json.dumps({**fields, "rows": 3}), "the manifest says"),
    ]:
        manifest.write_text(text)
        with pytest.raises(BadBundle, match=message):
            Bundle(path).current()
    (path / "CURRENT").write_text("latest")
    with pytest.raises(BadBundle, match="should hold a generation's number"):
        Bundle(path).current()
    with pytest.raises(BadBundle, match="should hold a generation's number"):
        begun(path, checkpoint)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadBundle, match="file"):
        begun(tmp_path / "file", checkpoint)


def test_a_missing_checkpoint_is_told_before_any_work(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"missing\.safetensors: no such checkpoint"):
        begun(path, tmp_path / "missing.safetensors")
    assert not path.exists()


def test_too_little_room_is_told_before_any_work(path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    begun(path, checkpoint).close()
    with checkpoint.open("r+b") as file:
        file.truncate(240_000_000)  # a sparse file: it takes no room here
    with pytest.raises(DiskFull, match="about 242 MB are needed, 3 MB are free"):
        begun(path, checkpoint)


def test_too_little_room_for_more_blocks_like_the_first_is_told_when_that_is_done(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, large = shutil.disk_usage("/"), replace(block(0, 10), thumbnails=(bytes(100_000),) * 8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=30_000_000))
    with begun(path, checkpoint) as building, pytest.raises(DiskFull, match="about 4. MB are needed, 30 MB are free"):
        building.append(large)
    with pytest.raises(DiskFull, match="about 4. MB are needed, 30 MB are free"):
        begun(path, checkpoint)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000_000))
    with begun(path, checkpoint) as building:
        assert building.done == 10


@pytest.mark.parametrize("leave_empty", [False, True])
def test_a_build_whose_catalogue_is_lost_starts_over(
    path: Path, checkpoint: Path, tmp_path: Path, leave_empty: bool
) -> None:
    with begun(path, checkpoint) as building:
        building.append(block(0, 10))
    (path / "building/work.sqlite").unlink()
    if leave_empty:
        (path / "building/work.sqlite").touch()
    with begun(path, checkpoint) as building:
        assert building.done == 0
    assert contents(build(path, checkpoint)) == contents(build(tmp_path / "unbroken", checkpoint))


def test_damaged_features_of_an_unfinished_build_are_told(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint) as building:
        building.append(block(0, 10))
    features = path / "building/generation/features.npy"
    for damage in (features.unlink, features.touch):
        damage()
        with pytest.raises(BadBundle, match=r"shorter than its catalogue says; delete .*/building to start over"):
            begun(path, checkpoint)
    (path / "building/work.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(BadBundle, match=r"not a database; delete .*/building to start over"):
        begun(path, checkpoint)


def test_the_published_catalogue_is_an_ordinary_database(path: Path, checkpoint: Path) -> None:
    generation = build(path, checkpoint)
    connection = sqlite3.connect(generation.path / "catalogue.sqlite")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT done FROM extent").fetchone() == (TOTAL,)
    connection.close()
    assert isinstance(generation, Generation)


def test_a_path_that_is_not_utf_8(path: Path, checkpoint: Path) -> None:
    odd = path.with_name("caf\udce9 ?#%")
    assert Bundle(build(odd, checkpoint).path.parents[1]).current(verify=True).catalogue.image(8).label == "frog"
