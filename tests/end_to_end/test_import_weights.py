"""scripts/import_weights.py: published files of full size become checkpoints that answer as their source does."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from model.checkpoint import load
from model.data.download import Digest, DownloadFailed, Published
from model.embed import Embedder
from model.published.homes import HOMES, Home
from model.published.importing import imported
from model.published.tables import CAFFE
from scripts.command import Refused
from scripts.import_weights import Config, job
from tests.model.published.published_files import caffe_layers, caffe_logits, narrow, new_blob, old_caffemodel

SCRIPT = Path(__file__).parents[2] / "scripts" / "import_weights.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.import_weights", *map(str, arguments)]
    return subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False)


def random_images() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)


def test_torchvisions_file_becomes_a_checkpoint_that_the_service_can_serve(tmp_path: Path) -> None:
    source, out, images = (
        tmp_path / "alexnet-owt-7be5be79.pth",
        tmp_path / "run" / "alexnet.safetensors",
        random_images(),
    )
    torch.manual_seed(0)
    network = alexnet(weights=None).eval()
    torch.save(network.state_dict(), source)
    done = run("--weights", source, "--kind", "torchvision", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "table torchvision, 1000 classes, 61,100,840 parameters" in done.stdout
    x = torch.from_numpy(images[:, 16:240, 16:240]).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        wanted = network(x).softmax(1)
        hidden = network.classifier[:6](network.avgpool(network.features(x)).flatten(1))
    probabilities, features = Embedder(load(out), "cpu")(images)
    np.testing.assert_allclose(probabilities, wanted.numpy(), rtol=1e-5)
    np.testing.assert_allclose(features, hidden.numpy(), rtol=1e-4, atol=1e-5 * float(hidden.max()))


def test_the_published_caffemodels_form_at_full_size_with_mean_and_names(tmp_path: Path) -> None:
    source, mean, names = tmp_path / "bvlc.caffemodel", tmp_path / "mean.binaryproto", tmp_path / "synset_words.txt"
    layers, bgr = caffe_layers(4096, 4096, 1000), torch.rand(3, 256, 256) * 50 + 90
    source.write_bytes(old_caffemodel(layers))
    mean.write_bytes(new_blob(bgr[None]))
    names.write_text("".join(f"n{i:08} name {i}\n" for i in range(1000)))
    job(Config(weights=str(source), out=tmp_path / "out", mean=mean, classes=names))
    found, images = load(tmp_path / "out"), random_images()
    assert (found.table.name, found.classes[999]) == ("caffe", "name 999")
    with torch.inference_mode():
        wanted = caffe_logits(layers, images, bgr, torch.float32).softmax(1)
    probabilities, features = Embedder(found, "cpu")(images)
    assert features.shape == (2, 4096)
    np.testing.assert_allclose(probabilities, wanted.numpy(), rtol=1e-3, atol=1e-5)  # of softmax over logits near 100


def test_a_name_is_the_published_file_in_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = old_caffemodel(caffe_layers(24, 16, 2))
    published = Published(("http://127.0.0.1:9/none",), Digest("sha1", hashlib.sha1(data).hexdigest()), len(data))
    monkeypatch.setitem(HOMES, "bvlc", lambda: Home("bvlc.caffemodel", published, ("cat", "dog")))
    monkeypatch.setattr("scripts.import_weights.imported", partial(imported, caffe=narrow(CAFFE)))
    given = Config(weights="bvlc", weights_folder=tmp_path / "weights", out=tmp_path / "out")
    with pytest.raises(DownloadFailed, match=f"give the file as --weights PATH, or put it into {given.weights_folder}"):
        job(given)
    (given.weights_folder / "bvlc.caffemodel").write_bytes(data)
    job(given)
    assert load(given.out).classes == ("cat", "dog")


def test_a_foreign_file_is_one_line_and_exit_2(tmp_path: Path) -> None:
    source, out = tmp_path / "holiday.jpg", tmp_path / "out"
    source.write_bytes(b"\xff\xd8\xff\xe0 an image")
    done = run("--weights", source, "--out", out)
    line = f"import_weights.py: {source}: neither a .caffemodel, nor an ONNX model, nor a PyTorch state dict"
    assert (done.returncode, done.stderr.strip(), done.stdout) == (2, line, "")
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    source, out = tmp_path / "a.caffemodel", tmp_path / "out"
    source.write_bytes(old_caffemodel({"conv1": caffe_layers(1, 1, 1)["conv1"]}))
    out.write_text("mine")
    with pytest.raises(Refused, match="is there already: --overwrite"):
        job(Config(weights=str(source), out=out))
    with pytest.raises(Refused, match="is there already"):
        job(Config(weights=str(source), out=tmp_path, overwrite=True))
    with pytest.raises(ValueError, match="layer conv2: none"):
        job(Config(weights=str(source), out=out, overwrite=True))
    assert out.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "bvlc.caffemodel"
    source.write_bytes(old_caffemodel(caffe_layers(24, 16, 3)))
    monkeypatch.setattr("scripts.import_weights.imported", partial(imported, caffe=narrow(CAFFE)))
    for out in (source / "out", tmp_path / ("n" * 300)):  # within a file, and with too long a name
        with pytest.raises(Refused, match="cannot be written: (File exists|File name too long)"):
            job(Config(weights=str(source), out=out))
    assert os.listdir(tmp_path) == [source.name]
