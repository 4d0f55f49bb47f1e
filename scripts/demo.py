"""From nothing to the page: photographs, a network, an index, a service.

A dataset is fetched, or a folder of images is packed, and a network is trained on it. Or no network is trained: a
published one indexes a folder. Each step is one of the other scripts, run as a command. What an earlier run has
finished is used again.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from index import BadBundle, Bundle
from index.manifest import OldFormat
from model import PackedSet
from model.data.encoded import EncodedSource
from model.data.folders import folder_source, part
from model.data.sources import printable
from model.data.splits import training_and_validation
from model.progress import counting
from model.train.recipes import RECIPES
from scripts.command import Refused, run
from service.port import listen

Data = Literal["cifar10", "imagenette"]
Preset = Literal["cifar", "photo", "release", "paper"]

PRESETS: dict[Data, Preset] = {"cifar10": "cifar", "imagenette": "photo"}  # that fit the sides of their images
FEW = 100  # images that are too few to train on


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Set up and serve a demonstration: a dataset of photographs, or the images of a folder."""

    data: Data = "cifar10"  # dataset that is fetched
    source: Path | None = None  # folder or archive that holds that dataset already; if not given, it is downloaded
    images: Path | None = None  # in place of --data: folder of class folders; with --weights any folder of images
    weights: str = ""  # train nothing: index --images with a published network; torchvision, bvlc, or its file
    name: str = ""  # of data/NAME, runs/NAME and bundles/NAME; empty: the dataset's or the folder's (and the weights')
    root: Path = Path(".")  # data, runs and bundles are kept here
    preset: Preset | None = None  # network and recipe: cifar for cifar10, else photo; release and paper want a GPU
    serve: bool = True  # serve when done, until Ctrl-C
    host: str = "127.0.0.1"  # address to serve on
    port: int = 8000  # TCP port to serve on


def demo(config: Demo) -> None:
    """Make the bundle where it is missing, then serve it. Raises Refused when a step failed, which printed why."""
    if config.serve:
        listen(config.host, config.port).close()  # refused before minutes of work, not after
    images, weights = _expanded(config.images), os.path.expanduser(config.weights)
    if images and not images.is_dir():
        raise Refused(f"{images}: not a folder")
    bundle = config.root / "bundles" / (config.name or _name(config.data, images, weights))
    if weights:
        _index(config, images, weights, bundle)
    elif (bundle / "CURRENT").exists() and not _outdated(bundle):
        print(f"{bundle} is there: nothing to fetch or to train", flush=True)
    else:
        _train(config, images, bundle)
    if config.serve:
        print(f"serve: http://{config.host}:{config.port}/  (Ctrl-C ends it)", flush=True)
        _command("serve.py", "--bundle", bundle, "--host", config.host, "--port", config.port)


def _outdated(bundle: Path) -> bool:
    """Return whether an earlier version made the bundle, so that it cannot be served but built again."""
    try:
        Bundle(bundle).current().close()
    except OldFormat:
        return True
    except BadBundle:
        pass  # serve.py says what is wrong with it
    return False


def _expanded(path: Path | None) -> Path | None:
    """The path with a home folder for its ~, which not every shell expands in `make demo IMAGES=~/Photos`."""
    return path and Path(os.path.expanduser(path))


def _name(data: Data, images: Path | None, weights: str) -> str:
    """Return a printable name: TensorBoard takes no path that is not UTF-8."""
    if not images:
        return data
    folder = printable(images.resolve().name) or "images"
    return f"{folder}-{printable(Path(weights).stem)}" if weights else folder


def _index(config: Demo, images: Path | None, weights: str, bundle: Path) -> None:
    """Index a folder with a published network. This is always run: it knows whether anything has changed.

    Raises Refused; BadDataset for a folder without images.
    """
    if not images:
        raise Refused("published weights are for a folder of images: name it with --images (make: IMAGES=)")
    if config.preset:
        raise Refused(f"preset {config.preset} is for training, and --weights trains nothing: give one of them")
    _source(images, size=1)  # without images it is refused here, not after a download
    known = ["--weights", weights, "--weights-folder", config.root / "data" / "weights"]
    _step("index", None, "build_index.py", *known, "--images", images, "--bundle", bundle)


def _train(config: Demo, images: Path | None, bundle: Path) -> None:
    preset = config.preset or ("photo" if images else PRESETS[config.data])
    data, trained = config.root / "data" / bundle.name, config.root / "runs" / bundle.name
    if images:
        _check_trainable(images, RECIPES[preset].stored)
        pack = ["--images", images, "--out", data, "--size", RECIPES[preset].stored]
        _step("pack", data / "meta.json", "prepare_dataset.py", *pack)
    else:
        _fetch(config, preset, data)
    checkpoint = trained / "checkpoint.safetensors"
    fitted = [*(["--resume"] if trained.exists() else []), "--batch", _batch(data, preset)]
    _step("train", checkpoint, "train.py", "--data", data, "--preset", preset, "--out", trained, *fitted)
    _step("index", None, "build_index.py", "--checkpoint", checkpoint, "--images", data, "--bundle", bundle)


def _fetch(config: Demo, preset: Preset, data: Path) -> None:
    if preset != PRESETS[config.data]:
        side = RECIPES[PRESETS[config.data]].stored
        raise Refused(f"preset {preset} is not for {config.data}'s {side} x {side} images: name a folder with --images")
    source = _expanded(config.source)
    given = ["--source", source] if source else []
    _step("fetch", data / "meta.json", f"fetch_{config.data}.py", "--out", data, *given)


def _check_trainable(images: Path, size: int) -> None:
    """Raise Refused for a folder that no network can be trained on, and say what can be done; BadDataset: no images."""
    source = _source(images, size)
    labels = [image.label for image in source.images if image.label >= 0]
    if len(set(labels)) < 2 or len(labels) < FEW:
        of = f"{len(source)} images, {len(labels)} of them in {len(set(labels))} class folders"
        raise Refused(
            f"{images}: {of}; training takes at least {FEW} in two. Without training, for any folder of images: "
            "--weights torchvision (WEIGHTS=torchvision)"
        )


def _source(images: Path, size: int) -> EncodedSource:
    """The images that packing and indexing take: those of the subfolder train where there is one. Raises BadDataset."""
    return folder_source(part(images, "train"), size, report=counting("images"))


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
