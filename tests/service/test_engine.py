"""A checkpoint that did not make the index is refused, and the message says what differs."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import BadBundle, NoSuchImage
from index.manifest import Manifest, Part, fingerprint
from model import checkpoint
from model.checkpoint import Checkpoint
from model.device import NoSuchDevice
from model.preprocess import Recipe
from service.engine import Engine
from service.loading import Mismatch, load_engine
from service.settings import Settings
from tests.model.weights import grey
from tests.service.bundles import BROKEN, CLASSES, EACH, network


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle", symlinks=True))


def put(bundle: Path, other: Checkpoint) -> None:
    """Replace the checkpoint and its entries in the manifest, so that only `inputs` still differs."""
    generation = next((bundle / "generations").glob("*"))
    file = generation / "checkpoint.safetensors"
    file.unlink()
    checkpoint.save(file, other)
    manifest = Manifest.read(generation / "manifest.json")
    parts = {**manifest.parts, file.name: Part(file.stat().st_size, fingerprint(file))}
    (generation / "manifest.json").write_text(replace(manifest, parts=parts).to_json())


def test_another_networks_weights_are_refused(copy: Path) -> None:
    put(copy, network(seed=1))
    ours, theirs = network().fingerprints()["weights"][:12], network(seed=1).fingerprints()["weights"][:12]
    with pytest.raises(Mismatch, match=f"weights {ours} in the index, {theirs} in the checkpoint; build") as refusal:
        load_engine(Settings(bundle=copy))
    assert "recipe" not in str(refusal.value)


@pytest.mark.parametrize("image_id", [BROKEN, EACH * len(CLASSES), 2**63 - 1])
def test_an_image_that_is_not_indexed_has_no_stored_features(image_id: int, engine: Engine) -> None:
    with pytest.raises(NoSuchImage):
        engine.infer_all([0, image_id])
    with pytest.raises(NoSuchImage):
        engine.predicted(np.array([0, image_id]))


def test_another_recipe_is_refused(copy: Path) -> None:
    other = replace(network(), recipe=Recipe(stored=36, crop=28), mean_image=grey(36))
    put(copy, other)
    with pytest.raises(Mismatch, match=r"; recipe \w{12} in the index, \w{12} in the checkpoint;"):
        load_engine(Settings(bundle=copy))


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"no index here; scripts/build_index\.py builds one"):
        load_engine(Settings(bundle=tmp_path / "none"))


def test_a_missing_device_is_refused(bundle: Path) -> None:
    with pytest.raises(NoSuchDevice):
        load_engine(Settings(bundle=bundle, device="abacus"))
