"""Unfinished builds continue, and give what an unbroken one gives; what does not fit is refused."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import BadBundle, Bundle, Busy, DiskFull, Generation, Layout, segment_writer
from index.bundle_folder import BundleFolder
from index.work_folder import WorkFolder
from tests.index.blocks import (
    BLOCK,
    INPUTS,
    TOTAL,
    WIDTH,
    File,
    Files,
    Run,
    begun,
    block,
    blocks,
    build,
    collection,
    contents,
)
from tests.test_files import traced


def other(name: str) -> Run:
    """Return a run with another network."""
    return Run({**INPUTS, "weights": name})


def changed_at(position: int, total: int = TOTAL) -> Files:
    """Return the collection after one of its files has changed."""
    return Files([f._replace(time=9) if i == position else f for i, f in enumerate(collection(total).files)])


def test_a_build_goes_on_after_the_blocks_that_are_done(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    for _ in range(3):
        with begun(path, checkpoint) as building:
            embedded = next(blocks(building.done))
            building.append(embedded)
            assert building.done == embedded.stop
    with (path / "building/features.npy").open("ab") as file:
        file.write(b"what a killed process wrote of the next block")
    assert contents(build(path, checkpoint)) == contents(build(tmp_path / "unbroken", checkpoint))


def test_what_a_killed_process_wrote_of_a_block_is_not_published(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    with begun(path, checkpoint, collection(20)) as building:
        for embedded in blocks(0, 20):
            building.append(embedded)
        with (path / "building/features.npy").open("ab") as file:
            file.write(b"of a block whose images have gone")
        generation = building.publish()
    assert contents(generation) == contents(build(tmp_path / "unbroken", checkpoint, collection(20)))


def test_a_build_of_something_else_starts_over(path: Path, checkpoint: Path) -> None:
    usual = collection()
    for source, run in (
        (usual, other("elsewhere")),
        (changed_at(0), Run()),
        (usual, Run(width=WIDTH + 1)),
        (Files(usual.files, classes=("cat", "dog", "fox")), Run()),
        (Files(usual.files, key="/elsewhere"), Run()),
        (usual, Run(engine="openvino")),
    ):
        with begun(path, checkpoint) as building:
            building.append(block(0, 10))
        with begun(path, checkpoint, source, run) as building:
            assert building.done == 0


def test_blocks_that_do_not_fit_are_refused(path: Path, checkpoint: Path) -> None:
    good = block(0, 10)
    entries = list(good.entries)
    wrong = {
        "follow": block(10, 20),
        "follow the": block(0, TOTAL + 1),
        "must have an entry": replace(good, entries=good.entries[1:]),
        "an entry, in ascending": replace(good, entries=good.entries[::-1]),
        "only what could be read": replace(good, ids=np.array([0, *good.ids])),
        "ascending order": replace(good, ids=good.ids[::-1].copy()),
        "float32": replace(good, features=good.features.astype(np.float64)),
        "should be": replace(good, features=good.features[1:]),
        "as many": replace(good, thumbnails=good.thumbnails[1:]),
        "finite": replace(good, features=good.features * np.float32(np.nan)),
        "0009.png is neither embedded nor known": replace(
            good, ids=good.ids[:-1], features=good.features[:-1], thumbnails=good.thumbnails[:-1]
        ),
        "0009.png is embedded again": replace(
            good, entries=(*entries[:9], entries[9]._replace(content=entries[8].content))
        ),
        "two of this build have the same name": replace(
            good, entries=(*entries[:9], entries[9]._replace(name=entries[8].name))
        ),
    }
    with begun(path, checkpoint) as building:
        for message, embedded in wrong.items():
            with pytest.raises(BadBundle, match=message):
                building.append(embedded)
            assert building.done == 0
        building.append(good)
        again = Files([*collection(10).files, File("image", "image 1")]).block(10, 11, set())
        with pytest.raises(BadBundle, match="image is embedded again"):
            building.append(again)


def test_publishing_too_early_or_nothing_is_refused(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint, collection(20)) as building:
        building.append(block(0, 10))
        with pytest.raises(BadBundle, match="only 10 of 20"):
            building.publish()
    with pytest.raises(BadBundle, match=r"none of the 10 images could be read, the first: cat/0000\.png: truncated"):
        build(path, checkpoint, collection(10, lost=1), other("network"))
    with pytest.raises(BadBundle, match="no index here"):
        Bundle(path).current()


def test_what_cannot_be_opened_is_not_published(path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(path, checkpoint, collection(20))
    write = segment_writer.write_segment

    def broken(folder: Path, *rest: Any) -> None:
        write(folder, *rest)
        np.save(folder / "ids.npy", np.load(folder / "ids.npy") - 2)

    monkeypatch.setattr("index.assembly.write_segment", broken)
    with pytest.raises(BadBundle, match="the image ids of its segments do not ascend"):
        build(path, checkpoint, collection(40))
    assert Bundle(path).current(verify=True).number == 1


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
        build(path, checkpoint, run=other(name))
    removed: list[str] = []
    rmtree = shutil.rmtree

    def second_builder(folder: Path, ignore_errors: bool = False) -> None:
        if folder.exists():
            with pytest.raises(Busy):
                begun(path, checkpoint, run=other("second"))
            removed.append(folder.name)
        rmtree(folder, ignore_errors)

    with begun(path, checkpoint, collection(10), other("first")) as building:
        building.append(block(0, 10))
        monkeypatch.setattr(shutil, "rmtree", second_builder)
        building.publish()
        monkeypatch.undo()
        assert removed == ["building", ".gone-0001"]
        begun(path, checkpoint, run=other("second")).close()  # the lock is free


def test_a_build_that_cannot_be_published_keeps_its_lock(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint, collection(10)) as building:
        building.append(block(0, 10))
        checkpoint.unlink()
        with pytest.raises(BadBundle, match=checkpoint.name):
            building.publish()
        checkpoint.touch()
        with pytest.raises(Busy):
            begun(path, checkpoint, collection(10))


@pytest.mark.parametrize(("changed", "kept"), [(0, 0), (19, 10), (20, 20), (49, 30)])
def test_a_build_goes_on_after_the_last_block_whose_images_are_as_they_were(
    path: Path, checkpoint: Path, tmp_path: Path, changed: int, kept: int
) -> None:
    with begun(path, checkpoint) as building:
        for start in range(0, 30, BLOCK):
            building.append(block(start, start + BLOCK))
    source = changed_at(changed, total=50)  # of 230 when it began
    with begun(path, checkpoint, source) as building:
        assert building.done == kept
    generation = build(path, checkpoint, source)
    assert contents(generation) == contents(build(tmp_path / "unbroken", checkpoint, source))


def test_contents_of_blocks_that_are_forgotten_are_not_known(path: Path, checkpoint: Path, tmp_path: Path) -> None:
    """An image that equals one in a forgotten block is embedded: else nothing of it would be left."""
    files = [File(f"{i}", f"{i % 15}") for i in range(30)]
    with begun(path, checkpoint, Files(files)) as building:
        known = building.known()
        for start in range(0, 30, BLOCK):
            building.append(Files(files).block(start, start + BLOCK, known))
        assert building.known() == known
    files[10:20] = [File(f"{i}", f"new {i}") for i in range(10, 20)]
    generation = build(path, checkpoint, Files(files))
    assert generation.manifest.ledger["indexed"] == 25
    assert contents(generation) == contents(build(tmp_path / "unbroken", checkpoint, Files(files)))


@pytest.mark.parametrize(("changed", "total"), [(15, TOTAL), (TOTAL, TOTAL + BLOCK)])  # one changed; some are new
def test_images_that_changed_after_a_kill_between_publish_and_point_are_embedded_anew(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, changed: int, total: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BundleFolder, "point", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            build(path, checkpoint)
    with begun(path, checkpoint, changed_at(changed, total)) as building:
        assert (building.done, building.plan.number) == (0, 2)
    assert build(path, checkpoint, changed_at(changed, total)).number == 2


def test_a_build_that_was_published_and_not_pointed_at_is_pointed_at(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BundleFolder, "point", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            build(path, checkpoint)
    with begun(path, checkpoint) as building:
        assert building.done == TOTAL
        events = traced(monkeypatch)
        assert building.publish().number == 1
    assert "sync generations" in events[: events.index("rename to CURRENT")]  # the other process may have been killed


def test_what_a_kill_left_of_a_published_build_is_not_written_to(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features.npy is a second name of a published file, so a build that cannot remove it does not start."""
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "discard", lambda _: None)
        build(path, checkpoint, collection(20))
    unlink = os.unlink

    def refused(name: Path | str, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None:  # by shutil.rmtree
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        unlink(name)

    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(BadBundle, match="cannot be written: Permission denied"):
        begun(path, checkpoint, collection(40))
    Bundle(path).current(verify=True)


def test_a_missing_checkpoint_is_told_before_any_work(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"missing\.safetensors: no such checkpoint"):
        begun(path, tmp_path / "missing.safetensors")
    assert not path.exists()


def test_inputs_must_name_weights_and_recipe(path: Path, checkpoint: Path) -> None:
    with pytest.raises(BadBundle, match="recipe and weights"):
        begun(path, checkpoint, run=Run({"images": "i"}))


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


def test_room_for_rows_that_another_layout_copies_is_asked_for_before_any_work(
    path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = sum(map(len, contents(build(path, checkpoint)).values()))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=stored // 2))
    begun(path, checkpoint, collection(TOTAL + 1)).close()  # links to the rest
    with pytest.raises(DiskFull, match="MB are needed"):
        begun(path, checkpoint, collection(TOTAL + 1), Run(layout=Layout("panorama", components=8, leading=4)))


@pytest.mark.parametrize("leave_empty", [False, True])
def test_a_build_whose_record_is_lost_starts_over(
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
    features = path / "building/features.npy"
    for damage in (features.unlink, features.touch):
        damage()
        with pytest.raises(BadBundle, match=r"shorter than its record says; delete .*/building to start over"):
            begun(path, checkpoint)
    (path / "building/work.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(BadBundle, match=r"not a database; delete .*/building to start over"):
        begun(path, checkpoint)


def test_a_removal_says_that_the_record_of_an_unfinished_build_is_damaged(path: Path, checkpoint: Path) -> None:
    build(path, checkpoint, collection(20))
    with begun(path, checkpoint, collection(40)) as building:
        building.append(collection(40).subset(range(20, 40)).block(0, 10, building.known()))
    (path / "building/work.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(BadBundle, match=r"not a database; delete .*/building to start over"):
        Bundle(path).remove([1])


def test_what_a_measurement_gives_and_writes_is_part_of_the_generation(path: Path, checkpoint: Path) -> None:
    with begun(path, checkpoint, collection(10)) as building:
        building.append(block(0, 10))

        def measure(generation: Generation) -> dict[str, int]:
            (generation.path / "queries.npy").write_bytes(b"queries")
            return {"rows": len(generation.ids)}

        generation = building.publish(measure)
    assert generation.manifest.quality == {"rows": 8}
    assert generation.manifest.parts["queries.npy"].bytes == 7
    generation.verify()
    (generation.path / "queries.npy").write_bytes(b"changed")
    with pytest.raises(BadBundle, match=r"queries\.npy"):
        generation.verify()
