"""train --init-from: another run's network learns new classes; what was frozen stays to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import BadCheckpoint, load, save
from model.preprocess import Recipe
from model.train.config import TrainConfig
from model.train.console import ConsoleLogger
from model.train.run import train
from model.train.state import BadRun
from tests.model.train.test_finetune import trained
from tests.model.train.test_run import MANY, packed, start
from tests.model.weights import grey


def config(tmp_path: Path, **changed: object) -> TrainConfig:
    """One epoch on dark and light images, from a network that knows cats, dogs and frogs."""
    if not (tmp_path / "data").exists():
        packed(tmp_path / "data", MANY)
        save(tmp_path / "before", trained())
    base = TrainConfig(
        data=tmp_path / "data", out=tmp_path / "run", init_from=tmp_path / "before", epochs=1, batch=50, device="cpu"
    )
    return replace(base, **changed)  # type: ignore[arg-type]


def test_a_run_goes_on_from_a_checkpoint_with_other_classes(tmp_path: Path) -> None:
    assert start(config(tmp_path, freeze=("conv1", "fc7")))
    before, after = load(tmp_path / "before"), load(tmp_path / "run" / "checkpoint.safetensors")
    assert (after.table, after.classes) == (before.table, ("dark", "light"))
    np.testing.assert_array_equal(after.mean_image, before.mean_image)
    assert after.provenance["init_from"] == before.fingerprints()
    assert after.provenance["frozen"] == ["conv1", "fc7"]
    for name, array in after.weights.items():
        if name.split(".")[0] == "fc8":
            assert array.shape[0] == 2
            continue
        assert np.array_equal(array, before.weights[name]) is name.startswith(("conv1", "fc7"))
    assert start(config(tmp_path, freeze=("fc7", "conv1"), resume=True))  # done already: the same run
    with pytest.raises(BadRun, match=r"frozen was \['conv1', 'fc7'\], is \[\]"):
        start(config(tmp_path, resume=True))
    weights = {name: array + np.float32(name == "conv2.bias") for name, array in before.weights.items()}
    save(tmp_path / "another", replace(before, weights=weights))
    with pytest.raises(BadRun, match=r"init_from.weights was"):
        start(config(tmp_path, freeze=("conv1", "fc7"), resume=True, init_from=tmp_path / "another"))


def test_what_cannot_be_started_from_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    large = replace(trained(), recipe=Recipe(256, 28), mean_image=grey(256, 0))
    save(tmp_path / "large", large)
    (tmp_path / "torn").write_bytes(b"torn")
    for changed, error, messages in (
        ({"init_from": tmp_path / "none"}, BadCheckpoint, "no such checkpoint"),
        ({"init_from": tmp_path / "torn"}, BadCheckpoint, "not a whole safetensors file"),
        ({"init_from": tmp_path / "large"}, BadRun, r"holds 32 x 32 images, .*large takes 256 x 256: .*--size 256"),
        ({"freeze": ("conv7",)}, BadCheckpoint, "cannot freeze conv7"),
        ({"init_from": None, "freeze": ("conv1",)}, BadRun, "name it with --init-from"),
    ):
        with pytest.raises(error, match=messages):
            start(config(tmp_path, **changed))
        assert not (tmp_path / "run").exists()


def test_a_redrawn_last_layer_is_said_aloud_once(tmp_path: Path) -> None:
    """Not in a resume, which has a last layer of its own, and not where the classes are the checkpoint's."""

    def lines(run: TrainConfig, *stop: bool) -> list[str]:
        said: list[str] = []
        stopping = iter(stop)
        train(run, ConsoleLogger(), stop=lambda: next(stopping, False), log=said.append)
        return [line for line in said if "drawn anew" in line]

    first = config(tmp_path, resume=True)
    assert lines(first, False, True) == ["fc8 is drawn anew: the classes are not the checkpoint's"]
    assert lines(first) == []
    same = tmp_path / "run" / "checkpoint.safetensors"
    assert lines(config(tmp_path, out=tmp_path / "same", init_from=same)) == []
