"""Packing: round trips, sums, and the same bytes however often it was killed."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import packing, packing_folder
from model.data.folders import folder_source
from model.data.packed import BadDataset, PackedSet
from model.data.packed_writer import Encoding
from model.data.packing import pack
from model.data.rows import ArraySource
from model.data.sources import Item, Source
from model.preprocess import Recipe
from tests.dice import dice
from tests.images import BROKEN, encoded, photograph
from tests.test_files import traced

ROOT = Path(__file__).parents[3]
ENCODINGS = st.sampled_from(["raw", "jpeg"])


class Interrupted(Exception):
    """Stands for a kill."""


class Fragile(ArraySource):
    """Images of which some are broken, and whose reading can be made to fail."""

    broken: frozenset[int] = frozenset()
    fails_at: int | None = None

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:
        if self.fails_at is not None and start <= self.fails_at < stop:
            raise Interrupted
        items = super().read(start, stop, known)
        return [Item(i.image_id, i.name, i.label, None, "broken") if i.image_id in self.broken else i for i in items]


def fragile(rows: int, size: int = 5, broken: frozenset[int] = frozenset(), fails_at: int | None = None) -> Fragile:
    """Random images of three classes."""
    rng = np.random.default_rng(rows)
    images = rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
    made = Fragile(images, rng.integers(0, 3, rows), [f"{row}é.png" for row in range(rows)], ("a", "b", "c"), f"{rows}")
    object.__setattr__(made, "broken", broken)
    object.__setattr__(made, "fails_at", fails_at)
    return made


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a packed dataset."""
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@given(rows=st.integers(1, 40), size=st.integers(1, 9), encoding=ENCODINGS, data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_packed_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: int, size: int, encoding: Encoding, data: st.DataObject
) -> None:
    broken = data.draw(st.frozensets(st.integers(0, rows - 1), max_size=rows - 1))
    source = fragile(rows, size, broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK", data.draw(st.integers(1, 12)))
        packed = pack(tmp_path_factory.mktemp("packed") / "set", {"train": source}, encoding=encoding)
    split = packed.split("train")
    kept = [row for row in range(rows) if row not in broken]
    images = split.images(slice(None))
    assert list(split.names) == [source.names[row] for row in kept]
    np.testing.assert_array_equal(split.labels, source.labels[kept])
    assert split.skipped == tuple((source.names[row], "broken") for row in sorted(broken))
    if encoding == "raw":
        np.testing.assert_array_equal(images, source.images[kept])
    np.testing.assert_array_equal(packed.mean_image, images.mean(axis=0, dtype=np.float64).astype(np.float32))
    check_colours(packed, images)


def check_colours(packed: PackedSet, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Eigenvalues and eigenvectors are those of the covariance of all pixels."""
    values, vectors = packed.pca
    covariance = np.cov(images.reshape(-1, 3).T.astype(np.float64), bias=True)
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(vectors.T @ np.diag(values) @ vectors, covariance, atol=1e-6)


@pytest.mark.slow
@given(stops=st.lists(st.integers(0, 59), max_size=5), encoding=ENCODINGS, block=st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_interruptions_do_not_show(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], encoding: Encoding, block: int
) -> None:
    place = tmp_path_factory.mktemp("packed")
    broken = frozenset({0, 7, 8, 33})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK", block)
        patch.setattr(packing, "DURABLE", 2)
        for stop in stops:
            with contextlib.suppress(Interrupted):  # no interruption where an earlier run has been already
                pack(place / "set", {"train": fragile(60, broken=broken, fails_at=stop)}, encoding=encoding)
            if not (place / "set" / "meta.json").exists():
                with (place / "set" / "train" / "names.txt").open("ab") as grown:
                    grown.write(b"half a na")  # written, but not vouched for
        pack(place / "set", {"train": fragile(60, broken=broken)}, encoding=encoding)
        (place / "whole").mkdir()
        pack(place / "whole" / "set", {"train": fragile(60, broken=broken)}, encoding=encoding)
    assert contents(place / "set") == contents(place / "whole" / "set")


@pytest.mark.parametrize(
    ("encoding", "images"), [("raw", ["images.npy"]), ("jpeg", ["images.bin", "offsets.npy"])], ids=["raw", "jpeg"]
)
def test_everything_is_on_the_disk_before_meta_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding, images: list[str]
) -> None:
    """A power cut after meta.json appeared must not take away a file, or the name of a file or of a folder above it."""
    events = traced(monkeypatch)
    pack(tmp_path / "above" / "data" / "set", {"train": fragile(5), "val": fragile(3)}, encoding=encoding)
    complete = events.index("rename to meta.json")
    before = [event.removeprefix("sync ") for event in events[:complete]]
    assert before[:3] == [tmp_path.name, "above", "data"]  # the names of above, of data and of set
    assert "set" in before[: before.index("rename to progress.npz")]  # a commit's folder can be found again
    for split in ("train", "val"):
        end = len(before) - before[::-1].index(split)  # the last time that the split's names are synced
        assert "set" in before[end:]  # the split's own name
        assert {"labels.npy", "names.txt", "skipped.jsonl", *images} <= set(before[:end])
    assert events[complete - 1] == "sync meta.json.part"
    assert events[complete + 1] == "sync set"


def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BLOCK", 10)
    monkeypatch.setattr(packing, "DURABLE", 1)
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", {"train": fragile(60, fails_at=45)})
    done: list[tuple[str, int, int]] = []
    pack(tmp_path / "set", {"train": fragile(60)}, report=lambda *row: done.append(row))
    assert done[0][1] > 30
    assert done[-1] == ("train", 60, 60)
    again: list[tuple[str, int, int]] = []
    pack(tmp_path / "set", {"train": fragile(60)}, report=lambda *row: again.append(row))
    assert again == []


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_a_split_that_is_finished_stays_when_the_next_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    monkeypatch.setattr(packing, "BLOCK", 10)
    train = fragile(25)
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
    with pytest.raises(Interrupted):
        pack(tmp_path / "killed" / "set", {"train": train, "val": fragile(20, fails_at=15)}, encoding=encoding)
    packed: list[str] = []
    both: dict[str, Source] = {"train": train, "val": fragile(20)}
    pack(tmp_path / "killed" / "set", both, encoding=encoding, report=lambda split, *_: packed.append(split))
    assert set(packed) == {"val"}
    pack(tmp_path / "whole" / "set", both, encoding=encoding)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_other_inputs_or_lost_files_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BLOCK", 10)
    monkeypatch.setattr(packing, "DURABLE", 1)
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", {"train": fragile(60, fails_at=45)})
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", {"train": fragile(70, fails_at=45)}, encoding="jpeg")
    (tmp_path / "set" / "train" / "images.bin").write_bytes(b"")
    packed = pack(tmp_path / "set", {"train": fragile(70)}, encoding="jpeg")
    assert len(packed.split("train").images(slice(None))) == 70
    assert not (tmp_path / "set" / "train" / "images.npy").exists()


def test_code_that_makes_other_images_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BLOCK", 10)
    monkeypatch.setattr(packing, "DURABLE", 1)
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", {"train": fragile(60, fails_at=45)})
    monkeypatch.setattr(Recipe, "version", 2)
    done: list[int] = []
    pack(tmp_path / "set", {"train": fragile(60)}, report=lambda _, now, __: done.append(now))
    assert done == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("progress", [b"", b"PK", b"PK\5\6" + bytes(18), bytes(1000)])
def test_progress_that_cannot_be_read_starts_over(tmp_path: Path, progress: bytes) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "train" / "progress.npz").write_bytes(progress)
    assert len(pack(tmp_path / "set", {"train": fragile(5)}).split("train")) == 5


def test_a_damaged_dataset_is_not_packed_over_but_its_removal_is_advised(tmp_path: Path) -> None:
    pack(tmp_path / "set", {"train": fragile(5)})
    with (tmp_path / "set" / "train" / "labels.npy").open("r+b") as file:
        file.truncate(130)
    with pytest.raises(BadDataset, match=r"labels\.npy: truncated or damaged; pack it again \(remove .*/set first\)"):
        pack(tmp_path / "set", {"train": fragile(5)})


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    pack(tmp_path / "set", {"train": fragile(5)})
    with pytest.raises(BadDataset, match="already holds a dataset of something else"):
        pack(tmp_path / "set", {"train": fragile(6)})
    photographs = tmp_path / "mine"
    (photographs / "train" / "cat").mkdir(parents=True)
    with pytest.raises(BadDataset, match=r"not an empty place, it holds train/cat"):
        pack(photographs, {"train": fragile(5)})
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadDataset, match="cannot be written"):
        pack(tmp_path / "file", {"train": fragile(5)})


def test_sources_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="needs a split named train"):
        pack(tmp_path, {"test": fragile(5)})
    with pytest.raises(BadDataset, match="split 'test' has other classes or another size"):
        pack(tmp_path, {"train": fragile(5, 6), "test": fragile(5, 7)})


def test_a_set_without_one_readable_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadDataset, match=r"none of the 3 training images could be packed; 0é.png: .* \(all are in .*skipped.jsonl\)"
    ):
        pack(tmp_path / "set", {"train": fragile(3, broken=frozenset(range(3)))})


class Ilsvrc(ArraySource):
    """As many images as the archives hold, without them."""

    def __len__(self) -> int:
        return 1_281_167 + 50_000


@pytest.mark.parametrize(
    ("encoding", "complaint"),
    [
        ("raw", r"needs about 261\.7 GB, 40\.0 are free; try the encoding jpeg"),
        ("jpeg", r"needs about 43\.6 GB, 40\.0 are free; make room or choose another disk"),
    ],
)
def test_a_disk_too_small_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding, complaint: str
) -> None:
    monkeypatch.setattr(packing_folder, "_free", lambda _: 40_000_000_000)
    images = Ilsvrc(np.zeros((1, 256, 256, 3), np.uint8), np.zeros(1, np.int64), ["a"], ("a",), "")
    with pytest.raises(BadDataset, match=complaint):
        pack(tmp_path / "set", {"train": images}, encoding=encoding)
    assert not (tmp_path / "set" / "train").exists()


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_what_is_packed_already_needs_no_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    monkeypatch.setattr(packing, "BLOCK", 10)
    monkeypatch.setattr(packing, "DURABLE", 1)
    with pytest.raises(Interrupted):
        pack(tmp_path / "set", {"train": fragile(60, 32, fails_at=55)}, encoding=encoding)
    needed = {"raw": 60 * 32 * 32 * 3, "jpeg": 60 * 32 * 32 // 2}[encoding]
    monkeypatch.setattr(packing_folder, "_free", lambda _: needed // 2)
    assert len(pack(tmp_path / "set", {"train": fragile(60, 32)}, encoding=encoding).split("train")) == 60


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    with packing_folder.alone(tmp_path), pytest.raises(BadDataset, match="another process is packing here"):
        pack(tmp_path, {"train": fragile(5)})


def test_corrupt_files_are_listed_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "images" / "things").mkdir(parents=True)
    for name, make in BROKEN.items():
        (tmp_path / "images" / "things" / f"{name}.jpg").write_bytes(make())
    (tmp_path / "images" / "things" / "good.png").write_bytes(encoded(photograph()))
    (tmp_path / "images" / "stray.png").write_bytes(encoded(photograph()))
    split = pack(tmp_path / "set", {"train": folder_source(tmp_path / "images", 16)}).split("train")
    assert list(split.names) == ["things/good.png"]
    assert len(split.skipped) == len(BROKEN) + 1
    assert dict(split.skipped)["stray.png"] == "it has no label"
    assert "is empty" in dict(split.skipped)["things/empty.jpg"]


PROGRAM = """
import os, signal, sys
from pathlib import Path
import files
from model.data import packing
from model.data.folders import folder_source

left, write_all = int(sys.argv[3]), files.write_all

def dying(file, data):
    global left
    left -= 1
    if left == 0:
        write_all(file, memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write_all(file, data)

files.write_all = dying
packing.BLOCK, packing.DURABLE = 8, 1
packing.pack(Path(sys.argv[2]), {"train": folder_source(sys.argv[1], 48)})
"""


@pytest.mark.slow
def test_kill_minus_nine_within_a_write_then_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """A block of eight images is eleven writes, so that each run commits at least one block before it dies."""
    images = tmp_path / "images"
    for number in range(200):
        file = images / f"c{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photograph(24, 32, seed=number)) if number % 50 else b"broken")
    killed, choice = tmp_path / "killed" / "set", dice()
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM, str(images), str(killed), str(choice.randrange(20, 120))]
        assert subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode == -signal.SIGKILL
        assert not (killed / "meta.json").exists()
        assert (killed / "train" / "progress.npz").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK", 8)
        pack(killed, {"train": folder_source(images, 48)})
        pack(tmp_path / "whole" / "set", {"train": folder_source(images, 48)})
    assert contents(killed) == contents(tmp_path / "whole" / "set")
