"""The loader benchmark reads as many images in a round as its table says."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.packed import Rows, Split
from scripts.benchmarks.loader import FOLDER, Reading, measure, packed_noise, shown
from scripts.benchmarks.settings import Loader
from scripts.command import Refused
from tests.images import encoded, photograph

HOST, AUGMENTED = "fc7, host's share (uint8)", "fc7, augmented to float"


@pytest.mark.parametrize(
    ("images", "batch", "count", "read"),
    [
        pytest.param(300, 64, 256, 256, id="whole batches"),
        pytest.param(300, 64, 250, 192, id="the last batch would be too much"),
        pytest.param(100, 64, 200, 192, id="three epochs of one batch"),
        pytest.param(100, 100, 100, 100, id="all at once"),
    ],
)
def test_a_round_reads_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, batch: int, count: int, read: int
) -> None:
    data, seen = packed_noise(tmp_path / "noise", images, 32).path, Counter[str]()
    unwatched = Split.images

    def watched(split: Split, rows: Rows, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        found = unwatched(split, rows, out)
        seen["images"] += len(found)
        return found

    monkeypatch.setattr(Split, "images", watched)
    readings = measure(Loader(data=data, preset="cifar", batch=batch, count=(count,), rounds=1, device="cpu"))
    assert [(reading.loader, reading.images) for reading in readings] == [(HOST, read), (AUGMENTED, read)]
    assert seen["images"] == read * len(readings) * 2  # a round that counts and one that does not


def test_the_baseline_reads_whole_batches_too(tmp_path: Path) -> None:
    data = packed_noise(tmp_path / "noise", 20, 32).path
    for row in range(11):
        file = tmp_path / "images" / f"class{row % 2}" / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photograph(40, 50, seed=row)))
    config = Loader(data=data, images=tmp_path / "images", preset="cifar", batch=4, count=(10,), rounds=1, device="cpu")
    readings = {reading.loader: reading for reading in measure(config)}
    assert [reading.images for reading in readings.values()] == [8, 8, 8]
    ratio = readings[HOST].images_per_s / readings[FOLDER].images_per_s
    assert readings[HOST].of_folder == pytest.approx(ratio)
    assert readings[FOLDER].of_folder == 1


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    data = packed_noise(tmp_path / "noise", 20, 32).path
    for batch, count in ((32, 64), (16, 8)):
        with pytest.raises(Refused, match=f"--batch {batch} asks for more"):
            measure(Loader(data=data, preset="cifar", batch=batch, count=(count,), device="cpu"))


def test_a_baseline_without_class_folders_is_refused(tmp_path: Path) -> None:
    data = packed_noise(tmp_path / "noise", 20, 32).path
    for images in (tmp_path / "nowhere", data / "meta.json", tmp_path / "noise" / "train"):
        with pytest.raises(Refused, match=f"--images {images}: "):
            measure(Loader(data=data, images=images, preset="cifar", batch=4, count=(8,), device="cpu"))


def test_noise_can_stand_in_for_a_dataset() -> None:
    readings = measure(Loader(noise=40, preset="cifar", batch=16, count=(32,), rounds=1, device="cpu"))
    assert [reading.images for reading in readings] == [32, 32]


def test_a_reading_is_a_line() -> None:
    line = shown([Reading("one", 8192, 1234.5, 10.26, 20, 2.5)]).splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")] == ["", "8,192", "one", "1,234", "10.3-20.0", "2.5 x", ""]
