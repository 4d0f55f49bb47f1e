"""The demo refuses at once what it could only refuse after minutes of work."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from model import BadDataset, PackedSet
from model.data.imagenette import WNIDS
from model.train.recipes import RECIPES
from scripts.command import Refused
from scripts.demo import Demo, Preset, demo
from service.port import PortTaken
from tests.images import encoded, photograph
from tests.model.data.ilsvrc_archives import jpeg, tar
from tests.processes import environment

ROOT = Path(__file__).parents[2]
DEADLINE = 200  # seconds, for all four steps of the demo


def class_folders(root: Path, count: int, classes: int = 3) -> Path:
    """Small photographs, each different."""
    for number in range(count):
        file = root / f"c{number % classes}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(photograph(36, 40, seed=number)))
    return root


def test_a_taken_port_is_told_before_anything_is_done(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1, port {port}: .*; choose another"):
            demo(Demo(root=tmp_path, port=port))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99999), ("127.0.0.1", -1), ("x" * 70 + ".org", 8000)])
def test_an_address_that_cannot_be_is_refused(host: str, port: int, tmp_path: Path) -> None:
    with pytest.raises(PortTaken, match=f"cannot listen on {host}, port {port}: .*; choose another"):
        demo(Demo(root=tmp_path, host=host, port=port))


def test_a_bundle_that_is_there_is_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundles" / "cifar10").mkdir(parents=True)
    (tmp_path / "bundles" / "cifar10" / "CURRENT").write_text("0001\n")
    demo(Demo(root=tmp_path, serve=False))
    assert "is there: nothing to fetch or to train" in capsys.readouterr().out


def test_a_bundle_of_an_earlier_version_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, bundle, trained = steps(monkeypatch), tmp_path / "bundles" / "mine", tmp_path / "runs" / "mine"
    (bundle / "generations" / "0001").mkdir(parents=True)
    (bundle / "generations" / "0001" / "manifest.json").write_text('{"format": 1}')
    (bundle / "CURRENT").write_text("0001\n")
    trained.mkdir(parents=True)
    (trained / "checkpoint.safetensors").touch()
    demo(Demo(images=class_folders(tmp_path / "mine", 100), root=tmp_path, preset="cifar", serve=False))
    assert [words[0] for words in seen] == ["prepare_dataset.py", "build_index.py"]


def test_a_step_that_fails_ends_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for image in class_folders(tmp_path / "images", 100).rglob("*.png"):
        image.write_text("<html>")
    with pytest.raises(Refused, match=r"ended with exit code 2; its message is above"):
        demo(Demo(root=tmp_path / "out", images=tmp_path / "images", serve=False))
    assert "prepare_dataset.py: " in capfd.readouterr().err
    assert not list(tmp_path.glob("out/runs"))


REAL = ("prepare_dataset.py", "fetch_imagenette.py")


def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that the demo runs; packing is real, the others do nothing."""
    start, seen = subprocess.Popen, list[list[str]]()

    def noting(command: list[str]) -> "subprocess.Popen[bytes]":
        seen.append([Path(command[1]).name, *command[2:]])
        if seen[-1][0] not in REAL:
            command = [sys.executable, "-c", ""]
        return start(command)

    monkeypatch.setattr(subprocess, "Popen", noting)
    return seen


def flags(seen: list[list[str]], script: str) -> dict[str, str]:
    """The flags of the only call of a script."""
    (words,) = (words for words in seen if words[0] == script)
    return dict(zip(words[1::2], words[2::2], strict=True))


@pytest.mark.parametrize(("preset", "count", "batch"), [(None, 150, 64), ("cifar", 150, 128), ("cifar", 104, 94)])
def test_a_folder_is_packed_and_trained_as_its_preset_and_count_want(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: Preset | None, count: int, batch: int
) -> None:
    seen = steps(monkeypatch)
    demo(Demo(images=class_folders(tmp_path / "mine", count), root=tmp_path, preset=preset, serve=False))
    packed, recipe = PackedSet.open(tmp_path / "data" / "mine"), RECIPES[preset or "photo"]
    assert packed.size == recipe.stored
    train = flags(seen, "train.py")
    assert train["--preset"] == (preset or "photo")
    assert int(train["--batch"]) == min(recipe.batch, len(packed.split("train"))) == pytest.approx(batch, abs=3)


def test_imagenette_is_fetched_and_trained_with_the_preset_for_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {f"train/{wnid}/{number}.JPEG": jpeg(number) for wnid in WNIDS for number in range(3)}
    (tmp_path / "a b.tar").write_bytes(tar(images))
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = steps(monkeypatch)
    demo(Demo(data="imagenette", source=Path("~/a b.tar"), root=tmp_path, serve=False))
    packed = PackedSet.open(tmp_path / "data" / "imagenette")
    assert (len(packed.classes), packed.size) == (10, RECIPES["photo"].stored)
    assert flags(seen, "train.py")["--preset"] == "photo"
    assert flags(seen, "build_index.py")["--bundle"] == str(tmp_path / "bundles" / "imagenette")


def test_published_weights_index_a_folder_each_time_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the bundle is there: the folder may have changed."""
    images, bundle = tmp_path / "My Photos", tmp_path / "bundles" / "My Photos-torchvision"
    (bundle).mkdir(parents=True)
    (bundle / "CURRENT").write_text("0001\n")
    images.mkdir()
    (images / "1.jpg").write_bytes(jpeg(0))
    seen = steps(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    demo(Demo(images=Path("~/My Photos"), weights="torchvision", root=tmp_path, port=0))
    assert [words[0] for words in seen] == ["build_index.py", "serve.py"]
    assert flags(seen, "build_index.py") == {
        "--weights": "torchvision",
        "--weights-folder": str(tmp_path / "data" / "weights"),
        "--images": str(images),
        "--bundle": str(bundle),
    }
    assert flags(seen, "serve.py")["--bundle"] == str(bundle)
    demo(Demo(images=images, weights="~/alexnet.pth", root=tmp_path, serve=False))
    assert seen[-1][seen[-1].index("--weights") + 1] == str(tmp_path / "alexnet.pth")
    assert seen[-1][-1] == str(tmp_path / "bundles" / "My Photos-alexnet")


def test_a_folder_whose_name_is_no_text_gives_its_bundle_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, seen = tmp_path / os.fsdecode(b"caf\xe9"), steps(monkeypatch)
    images.mkdir()
    (images / "1.jpg").write_bytes(jpeg(0))
    demo(Demo(images=images, weights="bvlc", root=tmp_path, serve=False))
    assert flags(seen, "build_index.py")["--bundle"] == str(tmp_path / "bundles" / "caf\\xe9-bvlc")
    assert flags(seen, "build_index.py")["--images"] == str(images)


@pytest.mark.parametrize(
    ("count", "classes", "said"),
    [
        (99, 3, "99 images, 99 of them in 3"),
        (120, 1, "120 images, 120 of them in 1"),
        (120, 0, "120 images, 0 of them in 0"),
    ],
    ids=["few", "one class", "no labels"],
)
def test_what_cannot_be_trained_is_told_of_published_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, classes: int, said: str
) -> None:
    seen, images = steps(monkeypatch), class_folders(tmp_path / "mine", count, classes or 1)
    with pytest.raises(Refused, match=f": {said} class folders; training takes .* --weights torchvision"):
        demo(Demo(images=images if classes else images / "c0", root=tmp_path, serve=False))
    assert seen == []


def test_a_subfolder_train_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in packing and in indexing."""
    seen = steps(monkeypatch)
    class_folders(tmp_path / "mine" / "train", 2, 1)
    class_folders(tmp_path / "mine" / "val", 100, 2)
    with pytest.raises(Refused, match=": 2 images, 2 of them in 1 class folders"):
        demo(Demo(images=tmp_path / "mine", root=tmp_path, serve=False))
    for image in (tmp_path / "mine" / "train").rglob("*.png"):
        image.unlink()
    for weights in ("", "torchvision"):
        with pytest.raises(BadDataset, match="mine/train: no images"):
            demo(Demo(images=tmp_path / "mine", weights=weights, root=tmp_path, serve=False))
    assert seen == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "release"}, "release is not for cifar10's 32 x 32 images: name a folder with --images"),
        ({"preset": "cifar", "data": "imagenette"}, "cifar is not for imagenette's 128 x 128 images: name a folder"),
        ({"weights": "bvlc"}, "published weights are for a folder of images: name it with --images"),
        (
            {"weights": "bvlc", "images": Path(), "preset": "photo"},
            "preset photo is for training, and --weights trains",
        ),
        ({"images": Path("nowhere")}, "nowhere: not a folder"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], said: str
) -> None:
    seen = steps(monkeypatch)
    with pytest.raises(Refused, match=said):
        demo(Demo(root=tmp_path, serve=False, **wrong))
    assert (seen, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("weights", ["", "torchvision"])
def test_a_folder_without_images_is_told_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    seen = steps(monkeypatch)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("no image")
    with pytest.raises(BadDataset, match="mine: no images"):
        demo(Demo(images=tmp_path / "mine", weights=weights, root=tmp_path, serve=False))
    assert seen == []


@pytest.mark.slow
def test_a_dataset_of_another_preset_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch)
    two = class_folders(tmp_path / "two", 100, classes=2)
    demo(Demo(images=two, root=tmp_path, preset="cifar", serve=False))
    with pytest.raises(Refused, match="two holds 32 x 32 images, release takes 256 x 256: choose another --name"):
        demo(Demo(images=two, root=tmp_path, preset="release", serve=False))


def test_make_hands_its_variables_over_as_they_are(tmp_path: Path) -> None:
    """In a copy of the checkout whose Python says what it is given."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text('#!/bin/sh\necho "$@"; env | grep ^FC7_ | sort\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()
    given = ["IMAGES=~/My \"own\" 'photos'", "WEIGHTS=torchvision", "SOURCE=/kept", "SERVE=0"]
    # `make test` hands its own flags to every make that its tests start.
    variables = {name: value for name, value in environment(FC7_DATA="cifar10").items() if not name.startswith("MA")}
    command = ["make", "--no-print-directory", "demo", *given]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "scripts/demo.py --no-serve",
        *("FC7_DATA=cifar10", "FC7_IMAGES=~/My \"own\" 'photos'", "FC7_SOURCE=/kept", "FC7_WEIGHTS=torchvision"),
    ]


@contextmanager
def running(*flags: str, environment: Mapping[str, str]) -> Iterator["queue.Queue[str]"]:
    """scripts/demo.py as a user starts it; Ctrl-C ends it and what it started. Yields its lines as they come."""
    lines: queue.Queue[str] = queue.Queue()

    def read(stream: IO[str]) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=read, args=(process.stdout,))
        reader.start()
        try:
            yield lines
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            reader.join(60)


SAVES_SLOWLY = """
import pathlib, signal, sys, time
def save(number, _):
    time.sleep(0.5)  # subprocess.run gives a script 0.25 s
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(130 if number == signal.SIGINT else 0)  # as train.py does
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
print("begun", flush=True)
time.sleep(60)
"""
A_STEP = """
import sys
from pathlib import Path
from scripts import demo
demo.__file__ = sys.argv[1]
demo._command("saves_slowly.py", sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_step_is_let_save_when_the_demo_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C on a terminal goes to both processes, docker's SIGTERM to the demo alone."""
    (tmp_path / "saves_slowly.py").write_text(SAVES_SLOWLY)
    command = [sys.executable, "-c", A_STEP, str(tmp_path / "demo.py"), str(tmp_path / "saved")]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert "begun\n" in iter(process.stdout.readline, "")  # "" at its end
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        assert process.wait(60) != 0
    assert (tmp_path / "saved").exists()


@pytest.mark.slow
def test_150_images_go_all_the_way_to_neighbours_over_http(tmp_path: Path) -> None:
    images = class_folders(tmp_path / "mine", 150)
    deadline, said, address = time.monotonic() + DEADLINE, "", ""
    given = ("--images", str(images), "--root", str(tmp_path), "--port", "0", "--preset", "cifar")
    with running(*given, environment=environment()) as lines:
        while not address:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            said += line
            assert line, said  # it ended
            address = line.partition("fc7 is at ")[2].strip()
        name = PackedSet.open(tmp_path / "data" / "mine").split("train").names[0]
        upload = {"file": (name, (images / name).read_bytes(), "image/png")}
        answer = httpx.post(f"{address}/neighbours", files=upload, timeout=60)
        assert answer.status_code == 200, answer.text
        nearest = answer.json()["neighbours"]
        assert [row["rank"] for row in nearest] == [1, 2, 3, 4, 5, 6]
        assert (nearest[0]["image_id"], nearest[0]["label"]) == (0, name.partition("/")[0])  # itself
        assert nearest[0]["distance"] < 1e-3 * nearest[5]["distance"]
