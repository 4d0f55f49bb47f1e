"""Every way in which a run cannot start is one clear line before anything is written."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.data.sources import Item
from model.data.splits import named_split, training_and_validation
from model.device import NoSuchDevice
from model.distributed.layout import LayoutError
from model.train.config import TrainConfig, recipe_of
from model.train.console import ConsoleLogger
from model.train.run import train
from model.train.state import BadRun


@dataclass(frozen=True)
class Grey:
    """Grey images in memory, as a source."""

    labels: tuple[int, ...]
    classes: tuple[str, ...] = ("dark", "light")
    size: int = 32

    def identity(self, start: int, stop: int) -> str:
        return repr((self, start, stop))

    def __len__(self) -> int:
        return len(self.labels)

    def entries(self) -> Iterator[tuple[str, int, str]]:
        return ((f"{i}.png", label, "") for i, label in enumerate(self.labels))

    def subset(self, positions: Sequence[int]) -> "Grey":
        return replace(self, labels=tuple(self.labels[i] for i in positions))

    def read(self, start: int, stop: int, known: Container[str] | None = None) -> list[Item]:  # noqa: ARG002
        return [Item(i, f"{i}.png", self.labels[i], self._image(i), None) for i in range(start, min(stop, len(self)))]

    def _image(self, i: int) -> NDArray[np.uint8]:
        return np.full((self.size, self.size, 3), i % 256, np.uint8)


def packed(path: Path, labels: tuple[int, ...], classes: tuple[str, ...] = ("dark", "light"), **more: Grey) -> Path:
    pack(path, {"train": Grey(labels, classes), **more})
    return path


def start(config: TrainConfig) -> bool:
    return train(config, ConsoleLogger(), stop=lambda: False, log=lambda _: None)


MANY = tuple(i % 2 for i in range(200))


@pytest.mark.parametrize(
    ("labels", "classes", "error", "messages"),
    [
        ((0,) * 200, ("dark",), BadDataset, "a network needs two classes to tell apart, this dataset has 1"),
        ((0, 1) * 10, ("dark", "light"), BadRun, "19 training images are fewer than a batch of 128; see --batch"),
    ],
)
def test_a_dataset_that_cannot_be_learned_from(
    labels: tuple[int, ...], classes: tuple[str, ...], error: type[Exception], messages: str, tmp_path: Path
) -> None:
    data = packed(tmp_path / "data", labels, classes)
    with pytest.raises(error, match=messages):
        start(TrainConfig(data=data, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "messages"),
    [(np.array(MANY) + 5, "labels outside 0 to 1, the classes' ids"), (-np.array(MANY), "100 of 200 training images")],
)
def test_labels_that_are_no_class_are_named(labels: NDArray[np.int64], messages: str, tmp_path: Path) -> None:
    data = packed(tmp_path / "data", MANY)
    np.save(data / "train" / "labels.npy", labels)
    with pytest.raises(BadDataset, match=messages):
        start(TrainConfig(data=data, out=tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "error", "messages"),
    [
        (lambda c: replace(c, data=c.data / "nothing"), BadDataset, "no meta.json"),
        (lambda c: replace(c, preset="paper"), BadRun, "holds 32 x 32 images, preset 'paper' takes 256 x 256"),
        (lambda c: replace(c, epochs=0), BadRun, "--epochs 0: at least 1 is accepted"),
        (lambda c: replace(c, batch=-4), BadRun, "--batch -4: at least 1 is accepted"),
        (lambda c: replace(c, keep=0), BadRun, "--keep 0: at least 1 is accepted"),
        (lambda c: replace(c, seed=-1), BadRun, "--seed -1 --save-minutes 10.0: 0 or more is accepted"),
        (lambda c: replace(c, save_minutes=-1.0), BadRun, "--save-minutes -1.0: 0 or more is accepted"),
        (lambda c: replace(c, save_minutes=float("nan")), BadRun, "--save-minutes nan: 0 or more is accepted"),
        (lambda c: replace(c, device="cuda:99"), NoSuchDevice, "there is no 'cuda:99' here"),
        (lambda c: replace(c, device="gpu"), NoSuchDevice, "'gpu' is not a device"),
        (lambda c: replace(c, rate=0.0), BadRun, "--rate 0.0: a positive number is accepted"),
    ],
)
def test_an_argument_that_cannot_be_met(
    change: Callable[[TrainConfig], TrainConfig], error: type[Exception], messages: str, tmp_path: Path
) -> None:
    config = TrainConfig(data=packed(tmp_path / "data", MANY), out=tmp_path / "run")
    with pytest.raises(error, match=messages):
        start(change(config))
    assert not (tmp_path / "run").exists()


def test_an_out_that_is_a_file_is_said(tmp_path: Path) -> None:
    config = TrainConfig(data=packed(tmp_path / "data", MANY), out=tmp_path / "file")
    config.out.write_text("mine")
    with pytest.raises(BadRun, match="is not a folder"):
        start(config)
    assert config.out.read_text() == "mine"


def test_a_run_that_is_stopped_before_its_first_step_does_not_say_that_it_is_saved(tmp_path: Path) -> None:
    config = TrainConfig(data=packed(tmp_path / "data", MANY), out=tmp_path / "run", device="cpu", epochs=1)
    said: list[str] = []
    assert not train(config, ConsoleLogger(), stop=lambda: True, log=said.append)
    assert said[-1] == "stopped before the first step; --resume begins again"
    assert start(replace(config, resume=True))


def test_validation_is_the_sets_own_split_or_a_fixed_twentieth(tmp_path: Path) -> None:
    own = PackedSet.open(packed(tmp_path / "own", MANY, test=Grey((0, 1, 1))))
    learn, validate = training_and_validation(own)
    assert (len(learn), validate.labels.tolist()) == (200, [0, 1, 1])
    without = PackedSet.open(packed(tmp_path / "without", MANY))
    learn, validate = training_and_validation(without)
    assert (len(learn), len(validate)) == (190, 10)
    both = np.concatenate([learn.images(slice(None))[:, 0, 0, 0], validate.images(slice(None))[:, 0, 0, 0]])
    assert sorted(both.tolist()) == list(range(200))
    assert named_split(without, "auto").labels.tolist() == validate.labels.tolist()
    assert len(named_split(own, "test")) == 3
    with pytest.raises(BadDataset, match="no split 'nonsense'"):
        named_split(own, "nonsense")


def test_a_validation_split_without_labels_is_said(tmp_path: Path) -> None:
    data = PackedSet.open(packed(tmp_path / "data", MANY, test=Grey((0, 1))))
    np.save(data.path / "test" / "labels.npy", np.array([-1, -1]))
    with pytest.raises(BadDataset, match="no image of split 'test' has a label"):
        training_and_validation(data)


def test_processes_compare_the_device_that_they_got_not_the_one_asked_for(tmp_path: Path) -> None:
    config = TrainConfig(data=packed(tmp_path / "data", MANY), out=tmp_path / "run", device="auto")
    with (
        patch("model.train.run.choose_device", return_value=torch.device("cuda:1")),
        patch("model.train.run.join", side_effect=LayoutError) as join,
        pytest.raises(LayoutError),
    ):
        start(config)
    assert join.call_args.kwargs["settings"]["device"] == "cuda"


def test_another_rate_scales_every_level() -> None:
    recipe = recipe_of(TrainConfig(preset="release", rate=0.001), None)
    assert recipe.rate == pytest.approx(0.001)
    assert recipe.levels == pytest.approx((0.001, 0.000159, 0.000025, 0.000004))
    assert recipe.bias_levels == pytest.approx((0.002, 0.0002))
