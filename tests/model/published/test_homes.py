"""Published networks by name: files of random weights in the exact forms, served on this machine."""

import hashlib
import io
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.models import AlexNet_Weights

from model.checkpoint import load
from model.data.download import Digest, DownloadFailed, Published, download
from model.data.web import Patience
from model.published import converted, homes
from model.published.converted import checkpoint_file
from model.published.homes import HOMES, Home, weights_file
from model.published.importing import imported
from model.published.tables import CAFFE, TORCHVISION, BadWeights
from tests.homes import Home as Server
from tests.homes import direct, serving
from tests.model.published.published_files import (
    CAFFENET,
    caffe_layers,
    narrow,
    new_caffemodel,
    old_caffemodel,
    torchvision_network,
)

__all__ = ["direct"]

pytestmark = pytest.mark.usefixtures("direct")

NAMES = ("cat", "dog", "frog")
PATHS = {"torchvision": "alexnet.pth", "bvlc": "bvlc_alexnet.caffemodel"}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def published() -> dict[str, bytes]:
    """Both networks' files with three classes and short hidden layers."""
    state = io.BytesIO()
    torch.save(torchvision_network(24, 16, 3).state_dict(), state)
    return {PATHS["torchvision"]: state.getvalue(), PATHS["bvlc"]: old_caffemodel(caffe_layers(24, 16, 3))}


@pytest.fixture(autouse=True)
def narrow_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = partial(imported, caffe=narrow(CAFFE), torchvision=narrow(TORCHVISION))
    monkeypatch.setattr(converted, "imported", tables)


def at(monkeypatch: pytest.MonkeyPatch, url: str, published: dict[str, bytes]) -> None:
    """Move the homes to this machine."""
    for name, file in PATHS.items():
        algorithm = "sha1" if name == "bvlc" else "sha256"
        digits = hashlib.new(algorithm, published[file]).hexdigest()
        home = Home(file, Published((f"{url}/{file}",), Digest(algorithm, digits), 1 << 24), NAMES)
        monkeypatch.setitem(HOMES, name, partial(replace, home))


def test_the_homes_are_the_published_ones() -> None:
    pytorch, caffe = HOMES["torchvision"](), HOMES["bvlc"]()
    size = AlexNet_Weights.IMAGENET1K_V1.meta["_file_size"] * (1 << 20)  # bytes; BVLC's has fewer parameters
    assert size < min(pytorch.published.limit, caffe.published.limit)
    assert pytorch.published.urls == (AlexNet_Weights.IMAGENET1K_V1.url,)
    assert (pytorch.file, pytorch.published.digest) == ("alexnet-owt-7be5be79.pth", Digest("sha256", "7be5be79"))
    assert (pytorch.classes[134], caffe.classes[134]) == ("crane bird", "crane (n02012849)")
    assert len(pytorch.classes) == len(caffe.classes) == 1000
    assert caffe.published.urls == ("http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel",)
    assert re.fullmatch(r"9116a64c[0-9a-f]{32}", caffe.published.digest.digits)


@pytest.mark.parametrize("name", PATHS)
def test_a_network_by_name_is_downloaded_and_converted_once_with_its_classes(
    name: str, published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Server(published, cut=5_000_000)) as server:
        at(monkeypatch, server.url("")[:-1], published)
        out = checkpoint_file(name, tmp_path)
        asked = len(server.asked)
        assert asked > 1  # the server cut it
        before = out.stat().st_ino  # which each writing changes
        assert checkpoint_file(name, tmp_path) == out
        assert len(server.asked) == asked
    assert out == tmp_path / f"{name}.safetensors"
    assert out.stat().st_ino == before
    found = load(out)
    assert (found.classes, found.table.name) == (NAMES, "torchvision" if name == "torchvision" else "caffe")
    assert found.provenance["sha256"] == hashlib.sha256(published[PATHS[name]]).hexdigest()


def test_a_checkpoint_of_another_file_or_code_is_made_again(
    published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, source = tmp_path / "bvlc.safetensors", tmp_path / PATHS["bvlc"]

    def made() -> int:
        """The checkpoint's inode; the folder has the file, so that no network is needed."""
        at(monkeypatch, NOWHERE, {**published, source.name: source.read_bytes()})
        checkpoint_file("bvlc", tmp_path)
        assert load(out).classes == NAMES
        return out.stat().st_ino

    out.write_bytes(b"damaged")
    source.write_bytes(published[source.name])
    first = made()
    assert made() == first
    source.write_bytes(new_caffemodel(caffe_layers(24, 16, 3, seed=1)))
    second = made()
    assert second != first
    monkeypatch.setattr(converted, "commit", lambda: "of another code")
    third = made()
    assert third != second
    monkeypatch.setattr(converted, "commit", lambda: None)  # an image: which code has made it is not known
    fourth = made()
    assert fourth != third
    assert made() != fourth


def test_a_file_given_by_its_path_has_its_home_s_classes_if_it_is_the_published_one(
    published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, NOWHERE, published)
    for name, wanted in ((PATHS["torchvision"], NAMES), (PATHS["bvlc"], NAMES), ("other", ("class 0", "class 1"))):
        source = tmp_path / f"my {name}"
        source.write_bytes(published.get(name) or new_caffemodel(caffe_layers(24, 16, 2)))
        out = checkpoint_file(str(source), tmp_path / "kept")
        assert load(out).classes == wanted
        assert out.parent == tmp_path / "kept"


def test_a_home_out_of_reach_is_one_line_that_says_how_to_give_the_file(
    published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, NOWHERE, published)
    with pytest.raises(DownloadFailed) as raised:
        weights_file("bvlc", tmp_path)
    assert str(raised.value) == (
        f"bvlc_alexnet.caffemodel cannot be downloaded ({NOWHERE}/bvlc_alexnet.caffemodel: Connection refused): "
        f"give the file as --weights PATH, or put it into {tmp_path}"
    )


def test_a_page_or_other_weights_at_the_home_are_refused_and_not_kept(
    published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, other = b"<html>gone</html>", new_caffemodel(caffe_layers(24, 16, 3, seed=1))
    with serving(Server({PATHS["torchvision"]: page, PATHS["bvlc"]: other}, kind="text/html")) as server:
        at(monkeypatch, server.url("")[:-1], published)
        for name in PATHS:
            with pytest.raises(DownloadFailed, match=r"bytes of text/html, not the published file \(sha"):
                weights_file(name, tmp_path)
    assert not [entry for entry in os.listdir(tmp_path) if not entry.endswith(".lock")]


def test_a_slow_home_is_given_up(published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = Patience(window=1.0, rate=1_000_000)
    monkeypatch.setattr(homes, "download", partial(download, patience=impatient))
    with serving(Server(published, cut=1_000, pause=0.05)) as server:
        at(monkeypatch, server.url("")[:-1], published)
        with pytest.raises(DownloadFailed, match=r"too slow: .* give the file as --weights PATH"):
            weights_file("bvlc", tmp_path)


def test_what_is_neither_a_name_nor_a_network_s_file_is_refused(tmp_path: Path) -> None:
    for absent in ("resnet", str(tmp_path), "/dev/null"):
        with pytest.raises(BadWeights, match=f"{absent}: no such file, and none of the names torchvision, bvlc"):
            weights_file(absent, tmp_path)
    files = {
        "CaffeNet, not AlexNet": new_caffemodel(caffe_layers(24, 16, 3), CAFFENET),
        "fc8.weight is 3 x 17": new_caffemodel({**caffe_layers(24, 16, 3), "fc8": caffe_layers(24, 17, 3)["fc8"]}),
        "neither a .caffemodel": b"<html>",
    }
    for reason, content in files.items():
        (tmp_path / "weights").write_bytes(content)
        with pytest.raises(BadWeights, match=f"^{tmp_path}/weights: .*{reason}"):
            checkpoint_file(str(tmp_path / "weights"), tmp_path)


def test_a_folder_that_cannot_hold_the_checkpoint_is_named(tmp_path: Path, published: dict[str, bytes]) -> None:
    (tmp_path / "weights").write_bytes(published[PATHS["bvlc"]])
    with pytest.raises(BadWeights, match=r"weights.*cannot be written: (File exists|Not a directory)"):
        checkpoint_file(str(tmp_path / "weights"), tmp_path / "weights" / "folder")
