"""An imported network gives what the source's own network gives, on the source's own weights and real image sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import Checkpoint, load, save
from model.forward.torch_engine import network_of
from model.network.alexnet import AlexNet
from model.network.tables import Conv, Dense, ResponseNorm, Table
from model.preprocess import Recipe, network_input
from model.published.importing import imported
from model.published.tables import CAFFE, CAFFE_MEAN, TORCHVISION, BadWeights, from_caffe, from_torchvision
from tests.model.published.published_files import (
    CAFFENET,
    caffe_layers,
    caffe_logits,
    narrow,
    new_blob,
    new_caffemodel,
    old_blob,
    old_caffemodel,
    onnx_model,
    torchvision_network,
)
from tests.model.weights import arrays

SMALL_CAFFE, SMALL_TORCHVISION = narrow(CAFFE), narrow(TORCHVISION)
CLASSES = 7
BGR_MEAN = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(5)) * 60 + 90
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_images(count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 256, 256, 3), dtype=np.uint8)


def logits(checkpoint: Checkpoint, images: NDArray[np.uint8]) -> Tensor:
    """Through this project's own door."""
    x = network_input(torch.from_numpy(images), torch.from_numpy(checkpoint.mean_image), checkpoint.recipe.crop)
    with torch.inference_mode():
        out: Tensor = network_of(checkpoint)(x)[0]
    return out


def apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest logit."""
    largest = wanted.abs().max()
    assert (wanted[0] - wanted[1]).abs().max() > 0.1 * largest  # else the images do not reach the end of the network
    return float((found.double() - wanted.double()).abs().max() / largest)


@pytest.fixture(scope="module")
def bvlc() -> dict[str, list[Tensor]]:
    return caffe_layers(fc6=24, fc7=16, classes=CLASSES)


@pytest.fixture(scope="module")
def tower() -> nn.Module:
    return torchvision_network(24, 16, CLASSES)


def normalised(images: NDArray[np.uint8], kind: torch.dtype) -> Tensor:
    """torchvision's ToTensor, CenterCrop(224) and Normalize of RGB (B, 256, 256, 3)."""
    x = torch.from_numpy(images[:, 16:240, 16:240]).permute(0, 3, 1, 2).to(kind) / 255
    return (x - torch.tensor(MEAN, dtype=kind).view(3, 1, 1)) / torch.tensor(STD, dtype=kind).view(3, 1, 1)


WRITERS: dict[str, Callable[..., bytes]] = {"old": old_caffemodel, "new": new_caffemodel, "onnx": onnx_model}


@pytest.mark.parametrize("form", WRITERS)
def test_bvlc_alexnet_from_its_file_is_caffes_network(form: str, bvlc: dict[str, list[Tensor]], tmp_path: Path) -> None:
    source, mean, names = tmp_path / "bvlc", tmp_path / "mean.binaryproto", tmp_path / "synset_words.txt"
    source.write_bytes(WRITERS[form](bvlc))
    mean.write_bytes((old_blob if form == "old" else new_blob)(BGR_MEAN[None]))
    names.write_text("".join(f"n0{i} tench, Tinca {i}\n" for i in range(CLASSES)))
    found = imported(source, "auto", mean, names, caffe=SMALL_CAFFE)
    images = random_images()
    wanted = caffe_logits(bvlc, images, BGR_MEAN, torch.float64)
    assert apart(logits(found, images), wanted) < 1e-5
    assert found.recipe == Recipe(stored=256, crop=227)
    assert found.classes[:2] == ("n00 tench, Tinca 0", "n01 tench, Tinca 1")
    assert found.provenance["imported"] == ("onnx" if form == "onnx" else "caffe")
    save(tmp_path / "ours", found)
    assert torch.equal(logits(load(tmp_path / "ours"), images), logits(found, images))


def test_in_float64_the_two_caffe_networks_agree_to_rounding(bvlc: dict[str, list[Tensor]]) -> None:
    images = random_images()
    network = AlexNet(SMALL_CAFFE, CLASSES).double()
    network.load_state_dict(from_caffe(bvlc, SMALL_CAFFE))
    mean = BGR_MEAN.flip(0).double()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() - mean
    with torch.inference_mode():
        found = network(x[:, :, 14:241, 14:241])[0]
    assert apart(found, caffe_logits(bvlc, images, BGR_MEAN, torch.float64)) < 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        replace(SMALL_CAFFE, norm_crosses=False),
        replace(SMALL_CAFFE, norm=ResponseNorm(alpha=1e-4 / 5, k=2.0)),
        replace(SMALL_CAFFE, norm=ResponseNorm(alpha=1e-4, k=1.0)),
        replace(
            SMALL_CAFFE,
            rows=(Conv(96, kernel=11, stride=4, sees="image", then=("relu", "pool", "norm")), *SMALL_CAFFE.rows[1:]),
        ),
    ],
    ids=["seam", "k", "alpha", "order"],
)
def test_each_particular_of_the_caffe_table_shows_in_the_logits(wrong: Table, bvlc: dict[str, list[Tensor]]) -> None:
    images = random_images()
    mean = BGR_MEAN.permute(1, 2, 0).flip(2)
    other = Checkpoint(wrong, Recipe(256, 227), tuple("abcdefg"), arrays(from_caffe(bvlc, wrong)), mean.numpy())
    assert apart(logits(other, images), caffe_logits(bvlc, images, BGR_MEAN, torch.float32)) > 1e-3


def test_torchvisions_alexnet_from_its_file_is_torchvisions_network(tower: nn.Module, tmp_path: Path) -> None:
    images = random_images()
    torch.save(tower.state_dict(), tmp_path / "alexnet.pth")
    found = imported(tmp_path / "alexnet.pth", torchvision=SMALL_TORCHVISION)
    with torch.inference_mode():
        wanted = tower(normalised(images, torch.float32))
    assert apart(logits(found, images), wanted) < 1e-5
    assert found.recipe == Recipe(stored=256, crop=224)
    assert found.classes == tuple(f"class {i}" for i in range(CLASSES))
    assert found.provenance["imported"] == "torchvision"


def test_in_float64_folding_the_normalisation_is_exact_to_rounding(tower: nn.Module) -> None:
    images, source = random_images(), torchvision_network(24, 16, CLASSES).double()
    source.load_state_dict(tower.state_dict())
    network = AlexNet(SMALL_TORCHVISION, CLASSES).double()
    network.load_state_dict(from_torchvision(source.state_dict(), SMALL_TORCHVISION))
    x = torch.from_numpy(images[:, 16:240, 16:240]).permute(0, 3, 1, 2).double()
    with torch.inference_mode():
        found = network(x - 255 * torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1))[0]
        wanted = source(normalised(images, torch.float64))
    assert apart(found, wanted) < 1e-12


def test_conv1_keeps_its_size_so_that_fine_tuning_sees_the_rate_it_is_given(tower: nn.Module) -> None:
    before = tower.state_dict()["features.0.weight"]
    after = from_torchvision(tower.state_dict(), SMALL_TORCHVISION)["conv1.weight"]
    assert (after / before).min() > 0.97
    assert (after / before).max() < 1.03


@pytest.mark.parametrize(("table", "parameters"), [(CAFFE, 60_965_224), (TORCHVISION, 61_100_840)])
def test_the_tables_have_the_published_counts(table: Table, parameters: int) -> None:
    with torch.device("meta"):
        network = AlexNet(table, classes=1000)
        out, embedding = network(torch.empty(1, 3, table.crop, table.crop, device="meta"))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert (tuple(out.shape), tuple(embedding.shape)) == ((1, 1000), (1, 4096))


def test_caffes_start_is_train_val_prototxts() -> None:
    assert [row.bias for row in CAFFE.rows] == [0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0]
    assert [row.std for row in CAFFE.rows] == [0.01] * 5 + [0.005, 0.005, 0.01]
    assert [row.dropout for row in CAFFE.rows if isinstance(row, Dense)] == [0.5, 0.5, 0]
    assert [row.channels for row in CAFFE.rows if isinstance(row, Conv)] == [96, 256, 384, 384, 256]


def test_a_mean_may_be_one_colour_or_numpys_or_left_out(bvlc: dict[str, list[Tensor]], tmp_path: Path) -> None:
    source = tmp_path / "bvlc.caffemodel"
    source.write_bytes(new_caffemodel(bvlc))
    colour, array = tmp_path / "colour.binaryproto", tmp_path / "mean.npy"
    colour.write_bytes(new_blob(torch.tensor([104.0, 117.0, 123.0])))
    np.save(array, BGR_MEAN.double().numpy())

    def mean(path: Path | None) -> Tensor:
        return torch.from_numpy(imported(source, mean=path, caffe=SMALL_CAFFE).mean_image)

    assert torch.equal(mean(colour), torch.tensor([123.0, 117.0, 104.0]).expand(256, 256, 3))
    assert torch.equal(mean(array), BGR_MEAN.permute(1, 2, 0).flip(2))
    torch.testing.assert_close(mean(None)[7, 9], torch.tensor(CAFFE_MEAN))
    for kind in ("uint8", "uint16", ">f4"):
        np.save(array, np.array([104, 117, 123]).astype(kind))
        assert mean(array)[7, 9].tolist() == [123, 117, 104]
    for numbers in (np.zeros(3, np.complex64), np.array(["a", "b", "c"])):
        np.save(array, numbers)
        with pytest.raises(BadWeights, match="not a mean image"):
            mean(array)
    with array.open("wb") as file:
        np.savez(file, mean=np.zeros(3))
    with pytest.raises(BadWeights, match="not a mean image"):
        mean(array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.pop("fc7"), "layer fc7: none; there are conv1, conv2"),
        (lambda layers: layers["conv3"].pop(), "layer conv3: 1 tensors, not weight and bias"),
        (
            lambda layers: layers.update(conv2=[torch.zeros(256, 96, 5, 5), torch.zeros(256)]),
            "conv2.weight is 256 x 96 x 5 x 5, table 'caffe' has 256 x 48 x 5 x 5",
        ),
        (
            lambda layers: layers.update(conv4=[layers["conv4"][0] / 0, layers["conv4"][1]]),
            "conv4.weight holds values that are no numbers",
        ),
    ],
)
def test_another_network_in_the_file_is_named(
    change: Callable[[dict[str, list[Tensor]]], object], message: str, bvlc: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    layers = {name: list(blobs) for name, blobs in bvlc.items()}
    change(layers)
    source = tmp_path / "bvlc.caffemodel"
    source.write_bytes(new_caffemodel(layers))
    with pytest.raises(BadWeights) as caught:
        imported(source, caffe=SMALL_CAFFE)
    assert str(caught.value).startswith(f"{source}: {message}")


def test_caffenet_which_has_the_same_shapes_is_not_taken_for_alexnet(
    bvlc: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    source = tmp_path / "caffenet"
    for content in (old_caffemodel(bvlc, CAFFENET), onnx_model(bvlc, nodes="Conv Relu MaxPool LRN")):
        source.write_bytes(content)
        with pytest.raises(BadWeights, match="CaffeNet, not AlexNet"):
            imported(source, caffe=SMALL_CAFFE)


def test_foreign_and_truncated_files_are_one_line(tower: nn.Module, tmp_path: Path) -> None:
    source = tmp_path / "file"
    with pytest.raises(BadWeights, match="cannot be read: No such file"):
        imported(source)
    contents: list[tuple[bytes, str]] = [
        (b"", "neither a .caffemodel, nor an ONNX model, nor a PyTorch state dict"),
        (b"\x89PNG\r\n", "neither a .caffemodel"),
        (b"PK\x03\x04 and no zip", "not a whole PyTorch file"),
        (b"\x80\x02cposix\nsystem\n(S'true'\ntR.", "not a whole PyTorch file"),
        (b"\x08\x03\x3a\x7f", "field 7 claims 127 bytes, only 0 follow"),
        (b"\x0a\x03abc", "there are no layers in it"),
    ]
    torch.save(tower.state_dict(), source)
    whole = source.read_bytes()
    contents += [(whole[:length], "not a whole PyTorch file") for length in (5, len(whole) // 2, len(whole) - 9)]
    torch.save(tower.state_dict(), source, _use_new_zipfile_serialization=False)  # the published file's form
    assert imported(source, torchvision=SMALL_TORCHVISION).table == SMALL_TORCHVISION
    whole = source.read_bytes()
    contents += [(whole[:length], "not a whole PyTorch file") for length in (5, 400, len(whole) // 2, len(whole) - 9)]
    for content, message in contents:
        source.write_bytes(content)
        with pytest.raises(BadWeights, match=message) as caught:
            imported(source)
        assert "\n" not in str(caught.value)


def test_a_state_dict_of_something_else_is_refused(tower: nn.Module, tmp_path: Path) -> None:
    source = tmp_path / "a.pth"
    state = dict(tower.state_dict())
    for content, message in (
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({"epoch": 3}, "layer conv1: features.0.weight is missing; there are epoch"),
        ({0: torch.zeros(3)}, "layer conv1: features.0.weight is missing; there are 0"),
        ({**state, "classifier.6.bias": 4}, "layer fc8: classifier.6.bias is missing; there are features.0.weight"),
        ({}, "there are no layers"),
    ):
        torch.save(content, source)
        with pytest.raises(BadWeights, match=message):
            imported(source, torchvision=SMALL_TORCHVISION)
    torch.save(state, source)
    with pytest.raises(BadWeights, match=r"fc6.weight is 24 x 9216, table 'torchvision' has 4096 x 9216"):
        imported(source)
    with pytest.raises(BadWeights, match="torchvision's network has its own constants"):
        imported(source, mean=source, torchvision=SMALL_TORCHVISION)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc", "not a mean image"),
        (new_blob(torch.zeros(3, 128, 128)), r"a mean of \(3, 128, 128\), not of 3 x 256 x 256"),
        (new_blob(torch.tensor([0.0, 1.0, 300.0])), "between 0 and 255"),
        (new_blob(torch.tensor([0.0, 1.0, float("nan")])), "between 0 and 255"),
    ],
)
def test_a_mean_that_is_none_is_refused(
    content: bytes, message: str, bvlc: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    source, mean = tmp_path / "bvlc", tmp_path / "mean.binaryproto"
    source.write_bytes(new_caffemodel(bvlc))
    mean.write_bytes(content)
    with pytest.raises(BadWeights, match=message):
        imported(source, mean=mean, caffe=SMALL_CAFFE)
    np_mean = tmp_path / "mean.npy"
    np_mean.write_bytes(content)
    with pytest.raises(BadWeights, match="not a mean image"):
        imported(source, mean=np_mean, caffe=SMALL_CAFFE)


@pytest.mark.parametrize(
    ("content", "message"), [(b"a\nb\n", "2 names"), (b"a\n\nb\nc\nd\ne\nf", "1 empty"), (b"\xff\n" * 7, "not a text")]
)
def test_class_names_that_do_not_fit_are_refused(
    content: bytes, message: str, bvlc: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    source, names = tmp_path / "bvlc", tmp_path / "names.txt"
    source.write_bytes(new_caffemodel(bvlc))
    names.write_bytes(content)
    with pytest.raises(BadWeights, match=message):
        imported(source, classes=names, caffe=SMALL_CAFFE)
