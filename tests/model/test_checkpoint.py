"""A checkpoint gives back the network it was made from, or says why it cannot; its file is whole or absent."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.checkpoint import BadCheckpoint, Checkpoint, load, save
from model.forward.torch_engine import network_of
from model.network.tables import CIFAR, PAPER, RELEASE, TABLES, Dense, Table
from model.preprocess import Recipe
from tests.model.network.test_alexnet import SMALL, fresh
from tests.model.weights import arrays, grey
from tests.test_files import traced

CLASSES = ("cat", "dog", "frog")


def made(table: Table = SMALL, classes: tuple[str, ...] = CLASSES) -> Checkpoint:
    recipe = Recipe(stored=18, crop=table.crop)
    weights = arrays(fresh(table, len(classes)).state_dict())
    return Checkpoint(table, recipe, classes, weights, grey(18), {"epochs": 3})


def test_what_was_saved_comes_back_with_the_same_answers(tmp_path: Path) -> None:
    path, saved = tmp_path / "run" / "checkpoint.safetensors", made()
    save(path, saved)
    found = load(path)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network_of(found)(x), network_of(saved)(x), rtol=0, atol=0)
    assert (found.table, found.recipe, found.classes, found.provenance) == (SMALL, saved.recipe, CLASSES, {"epochs": 3})
    np.testing.assert_array_equal(found.mean_image, saved.mean_image)
    assert found.fingerprints() == saved.fingerprints()
    assert os.listdir(path.parent) == ["checkpoint.safetensors"]


def test_a_checkpoint_and_the_names_of_new_folders_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = traced(monkeypatch)
    save(tmp_path / "runs" / "new" / "c", made())
    assert events == [f"sync {tmp_path.name}", "sync runs", "sync c.part", "rename to c", "sync new"]


def test_a_network_from_a_checkpoint_has_its_own_weights() -> None:
    saved = made()
    with torch.no_grad():
        network_of(saved).get_parameter("conv1.weight").zero_()
    assert np.abs(saved.weights["conv1.weight"]).sum() > 0


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_survives_the_file(table: Table, tmp_path: Path) -> None:
    empty = Checkpoint(table, Recipe(table.crop, table.crop), CLASSES, {}, grey(1))
    save(tmp_path / "c", empty)
    assert load(tmp_path / "c").table == table


def test_fingerprints_tell_weights_from_recipe() -> None:
    base = made().fingerprints()
    weights = {name: array + np.float32(name == "conv2.bias") for name, array in made().weights.items()}
    assert replace(made(), weights=weights).fingerprints() == {**base, "weights": ANY_OTHER(base["weights"])}
    other_mean = replace(made(), mean_image=grey(18, 0)).fingerprints()
    assert other_mean == {**base, "weights": ANY_OTHER(base["weights"])}
    renamed = replace(made(), classes=("cat", "dog", "toad")).fingerprints()
    assert renamed == {**base, "recipe": ANY_OTHER(base["recipe"])}
    assert replace(made(), provenance={}).fingerprints() == base


def test_the_fingerprint_of_weights_stays_what_it_was() -> None:
    """Recorded when weights were torch's: bundles hold such fingerprints, and the service compares them."""
    weights = {name: np.full(shape, 0.5, np.float32) for name, shape in SMALL.shapes(len(CLASSES)).items()}
    recorded = "c32f2c278872163cd335dc7af07433ab0980279cc1189661e5cdb722381a8a0b"
    assert replace(made(), weights=weights).fingerprints()["weights"] == recorded


def test_a_checkpoint_says_how_its_network_drops_out(tmp_path: Path) -> None:
    rows = tuple(replace(row, scaling="test") if isinstance(row, Dense) else row for row in SMALL.rows)
    inverted, as_in_2012 = made(), replace(made(), table=replace(SMALL, rows=rows))
    save(tmp_path / "c", as_in_2012)
    found = load(tmp_path / "c")
    assert [row.scaling for row in found.table.rows if isinstance(row, Dense)] == ["test"] * 3
    assert found.fingerprints()["recipe"] != inverted.fingerprints()["recipe"]
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network_of(found)(x)[0], network_of(as_in_2012)(x)[0])
    assert not torch.allclose(network_of(found)(x)[0], network_of(inverted)(x)[0])


def test_a_file_without_a_scaling_is_read_as_what_it_was(tmp_path: Path) -> None:
    """Recorded before the field existed: bundles hold this fingerprint, and their networks drop out inverted."""
    recorded = "942783f1daeb8738ea21ed0addbec4db7ecb9294c09c2fb76d33fbb02b5082cd"
    assert made().fingerprints()["recipe"] == recorded
    save(tmp_path / "c", made())
    with safe_open(tmp_path / "c", framework="pt") as file:
        assert "scaling" not in file.metadata()["about"]
    found = load(tmp_path / "c")
    assert [row.scaling for row in found.table.rows if isinstance(row, Dense)] == ["train"] * 3
    assert found.fingerprints()["recipe"] == recorded


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (0, {"then": "relu nrom pool"}, "then accepts 'relu', 'norm', 'map_norm', 'pool', not 'nrom'"),
        (0, {"sees": "left"}, "sees accepts 'image', 'own', 'both', not 'left'"),
        (0, {"padding": [1]}, "not enough values to unpack"),
        (3, {"scaling": "never"}, "scaling accepts 'train', 'test', not 'never'"),
        (5, {"units": 3}, "table 'small' must end in"),
    ],
)
def test_a_table_that_this_code_does_not_know_is_refused(
    row: int, change: dict[str, object], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "c", made())
    with safe_open(tmp_path / "c", framework="pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["about"])
    about["table"]["rows"][row] |= change
    save_file(load_file(tmp_path / "c"), tmp_path / "c", metadata={**metadata, "about": json.dumps(about)})
    with pytest.raises(BadCheckpoint, match=message):
        load(tmp_path / "c")


@pytest.mark.parametrize("name", ["conv1.weight", "mean_image"])
def test_a_file_with_damaged_numbers_is_refused(name: str, tmp_path: Path) -> None:
    whole = made()
    broken = {**whole.weights, "mean_image": whole.mean_image}[name].copy()
    broken[0, 0] = np.nan
    changed = {"mean_image": broken} if name == "mean_image" else {"weights": {**whole.weights, name: broken}}
    save(tmp_path / "c", replace(whole, **changed))
    with pytest.raises(BadCheckpoint, match=f"c: {name} holds a number that is not finite: the file is damaged"):
        load(tmp_path / "c")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int64])
def test_a_file_of_other_numbers_is_refused_also_of_kinds_that_numpy_does_not_have(
    kind: torch.dtype, tmp_path: Path
) -> None:
    save_file({"x": torch.zeros(2).to(kind)}, tmp_path / "c", metadata={"format": "fc7 checkpoint 1", "about": "{}"})
    with pytest.raises(BadCheckpoint, match=r"c: x is \w+; only F32 \(float32\) is read$"):
        load(tmp_path / "c")


class ANY_OTHER:  # noqa: N801 (reads as a value)
    """Equal to any fingerprint but one."""

    def __init__(self, than: str) -> None:
        self.than = than

    def __eq__(self, found: object) -> bool:
        return isinstance(found, str) and len(found) == 64 and found != self.than


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    save(tmp_path / "c", made())
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(BadCheckpoint, match="c: cannot be read: Permission denied$"):
        load(tmp_path / "c")


def test_files_that_are_not_checkpoints_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(BadCheckpoint, match="no such checkpoint"):
        load(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BadCheckpoint, match="not a whole safetensors file"):
        load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(BadCheckpoint, match="its format is None"):
        load(path)
    save_file({"x": torch.zeros(1)}, path, metadata={"format": "fc7 checkpoint 1", "about": "{}"})
    with pytest.raises(BadCheckpoint, match="cannot be read: KeyError"):
        load(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save(path, made())
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match="not a whole safetensors file"):
            load(path)


def test_weights_of_another_table_are_refused_by_name() -> None:
    wrong = replace(made(), weights={**made().weights, "conv1.weight": np.zeros((9, 3, 3, 3), np.float32)})
    with pytest.raises(BadCheckpoint, match=r"table 'small': conv1\.weight \(9, 3, 3, 3\), not \(8, 3, 3, 3\)$"):
        wrong.check_weights()


def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    save(path, made())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, replace(made(), classes=("a", "b", "c")))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c"]


def test_tables_are_told_apart() -> None:
    assert len({CIFAR, PAPER, RELEASE}) == 3
