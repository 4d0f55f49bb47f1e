"""From nothing to the page: fetch CIFAR-10 (or pack a folder of images), train, build the index, serve.

Each step is one of the other scripts, run as a command. What an earlier run has finished is used again.
"""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model import PackedSet
from model.data.splits import training_and_validation
from model.train.recipes import RECIPES
from scripts.command import Refused, run
from service.port import listen

Preset = Literal["cifar", "photo", "release", "paper"]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Set up and serve a demonstration: CIFAR-10, or the images of a folder."""

    images: Path | None = None  # folder of class folders to train on; none, or an empty one: CIFAR-10
    source: Path | None = None  # folder that holds CIFAR-10's files already; none, or an empty one: they are fetched
    name: str = ""  # of data/NAME, runs/NAME and bundles/NAME; empty: cifar10, or the folder's name
    root: Path = Path(".")  # data, runs and bundles are kept here
    preset: Preset = "cifar"  # network and recipe; release and paper take 256 x 256 images and want a GPU
    serve: bool = True  # serve when done, until Ctrl-C
    host: str = "127.0.0.1"  # address to serve on
    port: int = 8000  # TCP port to serve on


def demo(config: Demo) -> None:
    """Make the bundle where it is missing, then serve it. Raises Refused when a step failed, which printed why."""
    if config.serve:
        listen(config.host, config.port).close()  # refused before minutes of work, not after
    images = _filled(config.images)
    if not images and config.preset != "cifar":
        raise Refused(f"preset {config.preset} is not for CIFAR-10's 32 x 32 images: name a folder with --images")
    name = config.name or (images.resolve().name if images else "cifar10")
    bundle = config.root / "bundles" / name
    if (bundle / "CURRENT").exists():
        print(f"{bundle} is there: nothing to fetch or to train", flush=True)
    else:
        _make(config, images, name, bundle)
    if config.serve:
        print(f"serve: http://{config.host}:{config.port}/  (Ctrl-C ends it)", flush=True)
        _command("serve.py", "--bundle", bundle, "--host", config.host, "--port", config.port)


def _make(config: Demo, images: Path | None, name: str, bundle: Path) -> None:
    data, trained = config.root / "data" / name, config.root / "runs" / name
    checkpoint, source = trained / "checkpoint.safetensors", _filled(config.source)
    if images:
        pack = ["--images", images, "--out", data, "--size", RECIPES[config.preset].stored]
        _step("pack", data / "meta.json", "prepare_dataset.py", *pack)
    else:
        fetch = ["--out", data, *(["--source", source] if source else [])]
        _step("fetch", data / "meta.json", "fetch_cifar10.py", *fetch)
    begun = ["--resume"] if trained.exists() else []
    fitted = [*begun, "--batch", _batch(data, config.preset)]
    _step("train", checkpoint, "train.py", "--data", data, "--preset", config.preset, "--out", trained, *fitted)
    _step("index", None, "build_index.py", "--checkpoint", checkpoint, "--images", data, "--bundle", bundle)


def _batch(data: Path, preset: Preset) -> int:
    """Images a step: the preset's, or all training images where they are fewer.

    Raises Refused for a dataset of another size, which an earlier demo of that name left, and BadDataset for one that
    cannot be trained on.
    """
    packed, recipe = PackedSet.open(data), RECIPES[preset]
    if packed.size != recipe.stored:
        side, wanted = packed.size, recipe.stored
        raise Refused(f"{data} holds {side} x {side} images, {preset} takes {wanted} x {wanted}: choose another --name")
    train, _ = training_and_validation(packed)
    return min(recipe.batch, len(train))


def _filled(folder: Path | None) -> Path | None:
    """Return the folder where it holds anything, else None. Raises Refused where it cannot be read."""
    if folder and not folder.is_dir():
        raise Refused(f"{folder}: not a folder")
    try:
        return folder if folder and any(folder.iterdir()) else None
    except OSError as error:
        raise Refused(f"{folder}: cannot be read: {error.strerror}") from error


def _step(name: str, product: Path | None, script: str, *arguments: object) -> None:
    """Run one script and print how long it took; skip it where its product exists."""
    if product and product.exists():
        print(f"{name}: {product} is there", flush=True)
        return
    start = time.perf_counter()
    _command(script, *arguments)
    print(f"{name}: done in {time.perf_counter() - start:.0f} s", flush=True)


def _command(script: str, *arguments: object) -> None:
    """Run one script to its end. Raises Refused when it failed, KeyboardInterrupt when it or the demo was stopped."""
    words = [script, *map(str, arguments)]
    print("$ python scripts/" + " ".join(words), flush=True)
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / script), *words[1:]])
    stopped = False

    def stop(*_: object) -> None:
        """Docker ends a container by a SIGTERM to this process alone. Training saves and exits 0 on it."""
        nonlocal stopped
        stopped = True
        process.terminate()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with process:
            code = _ended(process)
    finally:
        signal.signal(signal.SIGTERM, before)
    if stopped or code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        raise Refused(f"{script} ended with exit code {code}; its message is above")


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the exit code, also after Ctrl-C: it reached the script, too, and training saves before it ends."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


if __name__ == "__main__":
    run(Demo, demo)
