"""The batch job's benchmark embeds what its table says, and compares what belongs together."""

from pathlib import Path

import pytest

from model.data.packed import BadDataset
from scripts.benchmarks import embed
from scripts.benchmarks.embed import BUNDLE, DECODE, FILES, FOLDER, FORWARD, PACKED, Share, measure, shares, shown
from scripts.benchmarks.loader import packed_noise
from scripts.benchmarks.settings import Embed
from scripts.benchmarks.timing import Timing
from scripts.command import Refused
from tests.images import encoded, photograph


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return packed_noise(tmp_path / "data" / "noise", 30, 32).path


def class_folders(root: Path, count: int) -> Path:
    for row in range(count):
        file = root / f"class{row % 2}" / f"{row}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photograph(40, 50, seed=row), "JPEG"))
    return root


@pytest.mark.slow
def test_every_form_takes_the_first_images(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # worker processes of the baseline
    images = class_folders(tmp_path / "images", 12)
    found = {share.form: share for share in measure(Embed(data=data, images=images, count=10, rounds=1, device="cpu"))}
    assert list(found) == [FORWARD, PACKED, BUNDLE, DECODE, FILES, FOLDER]
    assert {share.images for share in found.values()} == {10}
    assert found[PACKED].ratio == pytest.approx(found[PACKED].images_per_s / found[FORWARD].images_per_s)
    assert [path.name for path in data.parent.iterdir()] == ["noise"], "bundles were left behind"


def test_without_files_there_is_the_packed_dataset(data: Path) -> None:
    config = Embed(data=data, count=10, rounds=1, device="cpu", engine="torch", precision="float32")
    assert [share.form for share in measure(config)] == [FORWARD, PACKED, BUNDLE]


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="nowhere/data: not a folder"):
        measure(Embed(data=tmp_path / "nowhere" / "data", device="cpu", engine="torch"))


def test_shares_are_of_what_could_be() -> None:
    rates = {FORWARD: 100, PACKED: 96, BUNDLE: 90, DECODE: 300, FILES: 70, FOLDER: 28}
    timings = {form: Timing((500.0,), rate * 500) for form, rate in rates.items()}
    found = {share.form: share for share in shares({**timings, BUNDLE: Timing((600.0,), 54_000)})}
    assert [share.form for share in found.values() if share.ratio is None] == [FORWARD, DECODE]
    assert found[PACKED].ratio == pytest.approx(0.96)
    assert found[BUNDLE].ratio == pytest.approx(0.90)
    assert found[FILES].ratio == pytest.approx(70 / 75)  # one after the other, 100 and 300 a second are 75
    assert found[FOLDER].ratio == pytest.approx(2.5)
    assert [found[form].target for form in (PACKED, BUNDLE, FILES, FOLDER)] == [0.95, 0.88, 0.93, 2]
    assert {share.form: share for share in shares(timings)}[BUNDLE].target is None


def test_the_precision_and_the_preset_are_those_asked_for() -> None:
    trained = embed._network(Embed(preset="photo", precision="bfloat16"))
    assert (trained.table.name, trained.recipe.stored, trained.recipe.precision) == ("photo", 128, "bfloat16")


def test_a_baseline_without_class_folders_is_refused(data: Path, tmp_path: Path) -> None:
    flat = class_folders(tmp_path / "images", 2) / "class0"
    with pytest.raises(Refused, match=f"--images {flat}: "):
        measure(Embed(data=data, images=flat, count=10, rounds=1, device="cpu"))


def test_a_share_is_a_line() -> None:
    line = shown([Share("one", 8192, 1234.5, 10.26, 20, "forward", 0.9512, 0.95)]).splitlines()[-1]
    cells = [cell.strip() for cell in line.split("|")]
    assert cells == ["", "one", "8,192", "1,234", "10.26-20.00", "forward", "0.951", ">= 0.95", ""]
