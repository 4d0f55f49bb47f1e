"""The batch job as a process, from a folder of images to a bundle; after a kill it continues."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image

from index.exact import nearest
from index.layout import open_search
from index.queries import Queries
from index.store import Bundle
from model import checkpoint
from model.data.folders import folder_source
from model.embed import Embedder
from tests.index.blocks import contents
from tests.model.test_checkpoint import made
from tests.processes import environment

ROOT = Path(__file__).parents[2]
COUNT = 1100  # three blocks
HELD_OUT = 11  # of them measure the index, and are not in it
pytestmark = pytest.mark.timeout(300)

# The script as it is, but it kills its process when the features of the second block are written and its rows are not.
KILLED_IN_THE_SECOND_BLOCK = """
import os, runpy, signal
from index.work import Work

record = Work.record

def killed(work, block):
    if work.done:
        os.kill(os.getpid(), signal.SIGKILL)
    record(work, block)

Work.record = killed
runpy.run_path("scripts/build_index.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint.safetensors and images/<class>/<name>.png; two of the files are no images."""
    root = tmp_path_factory.mktemp("collection")
    checkpoint.save(root / "checkpoint.safetensors", made())
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        folder = root / "images" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (18, 18, 3), dtype=np.uint8)).save(folder / f"{i:04}.png")
    (root / "images/cat/0000.png").write_bytes(b"<html>not found</html>")
    (root / "images/dog/0001.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def unbroken(collection: Path) -> tuple[Path, str]:
    """A bundle built in one go, and what the job printed."""
    bundle = collection / "unbroken"
    return bundle, finished(start(collection, bundle))


def start(
    collection: Path, bundle: Path, *flags: str, program: Sequence[str] = ("scripts/build_index.py",)
) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "--checkpoint", str(collection / "checkpoint.safetensors")]
    command += ["--images", str(collection / "images"), "--bundle", str(bundle), "--device", "cpu", *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"embed: {COUNT - HELD_OUT} of {COUNT - HELD_OUT}" in err or "nothing to do" in out
    return out


def test_the_summary_counts_and_names_what_was_skipped(unbroken: tuple[Path, str]) -> None:
    _, out = unbroken
    assert "skipped cat/0000.png: " in out
    assert "skipped dog/0001.png: " in out
    assert "generation 1 published in" in out
    assert f"{COUNT - HELD_OUT - 2:,} images indexed, 2 skipped" in out
    assert f"{HELD_OUT} images are not in it but measure it" in out
    assert f"{HELD_OUT} held-out images: proven answers have the 6 nearest of all" in out


def test_the_bundle_holds_what_the_network_says(collection: Path, unbroken: tuple[Path, str]) -> None:
    generation = Bundle(unbroken[0]).current(verify=True)
    embedder = Embedder(checkpoint.load(generation.checkpoint), "cpu")
    queries, source = Queries.read(generation.path), folder_source(collection / "images", 18)
    assert queries is not None
    source = source.subset([row for row, (name, _, _) in enumerate(source.entries()) if name not in queries.names])
    items = [item for item in source.read(0, COUNT) if item.image is not None]
    features = embedder(np.stack([item.image for item in items if item.image is not None]))[1]
    np.testing.assert_allclose(generation.all_rows(), features, rtol=1e-5, atol=1e-6)
    assert generation.ids.tolist() == [item.image_id for item in items]
    image = generation.catalogue.image(items[7].image_id)
    assert (image.name, image.label) == (items[7].name, source.classes[items[7].label])
    assert generation.manifest.inputs == embedder.checkpoint.fingerprints()
    assert generation.layout.map == "pca"
    assert generation.positions() is not None


def test_an_indexed_image_is_its_own_nearest_and_the_six_are_brute_forces(unbroken: tuple[Path, str]) -> None:
    generation = Bundle(unbroken[0]).current()
    queries = np.array(generation.all_rows()[::100])
    answers = open_search(generation).search(queries, 6)
    assert (answers.distances[:, 0] == 0).all()
    expected = nearest(generation.all_rows(), generation.ids, queries, 6)
    np.testing.assert_array_equal(answers.ids, expected[1])
    np.testing.assert_array_equal(answers.distances, expected[0])


def test_either_engine_serves_what_the_other_built(
    collection: Path, unbroken: tuple[Path, str], tmp_path: Path
) -> None:
    assert "by torch on cpu" in finished(start(collection, tmp_path, "--engine", "torch"))
    assert "by openvino on cpu" in unbroken[1]
    ours, theirs = Bundle(unbroken[0]).current(), Bundle(tmp_path).current()
    assert (ours.manifest.engine, theirs.manifest.engine) == ("openvino", "torch")
    np.testing.assert_allclose(ours.all_rows(), theirs.all_rows(), rtol=0, atol=1e-5 * np.abs(theirs.all_rows()).max())
    held_out = np.random.default_rng(1).integers(0, 256, (200, 18, 18, 3), dtype=np.uint8)
    found = []
    for generation, engine in ((ours, "torch"), (theirs, "openvino"), (ours, "openvino")):
        embedder = Embedder(checkpoint.load(generation.checkpoint), "cpu", engine)  # type: ignore[arg-type]
        found.append(open_search(generation).search(embedder(held_out)[1], 6).ids)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[2])


def test_another_precision_is_another_generation_and_the_checkpoint_in_it_says_so(
    collection: Path, tmp_path: Path
) -> None:
    process = start(collection, tmp_path, "--precision", "bfloat16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert "no bfloat16 arithmetic" in process.communicate(timeout=120)[1]
        assert process.returncode == 2
        return
    finished(process)
    generation = Bundle(tmp_path).current(verify=True)
    trained, bundled = checkpoint.load(collection / "checkpoint.safetensors"), checkpoint.load(generation.checkpoint)
    assert (trained.recipe.precision, bundled.recipe.precision) == ("float32", "bfloat16")
    assert bundled.fingerprints() == {part: generation.manifest.inputs[part] for part in ("weights", "recipe")}
    assert bundled.fingerprints()["weights"] == trained.fingerprints()["weights"]
    assert "nothing to do" in finished(start(collection, tmp_path, "--precision", "bfloat16"))
    assert "generation 2 published" in finished(start(collection, tmp_path))


def test_run_again_it_has_nothing_to_do(collection: Path, unbroken: tuple[Path, str]) -> None:
    bundle, _ = unbroken
    assert "nothing to do" in finished(start(collection, bundle))
    assert [path.name for path in (bundle / "generations").iterdir()] == ["0001"]


def test_killed_and_run_again_it_gives_the_same_bytes(
    collection: Path, unbroken: tuple[Path, str], tmp_path: Path
) -> None:
    process = start(collection, tmp_path, program=("-c", KILLED_IN_THE_SECOND_BLOCK))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    begun = tmp_path / "begun.npy"
    begun.hardlink_to(tmp_path / "building/features.npy")
    finished(start(collection, tmp_path))
    assert begun.samefile(tmp_path / "generations/0001/segments/0001/features.npy"), "it started over"
    assert contents(Bundle(tmp_path).current(verify=True)) == contents(Bundle(unbroken[0]).current())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--checkpoint", "missing.safetensors"), "missing.safetensors"),
        (("--images", "missing"), "missing"),
        (("--device", "abacus"), "abacus"),
    ],
)
def test_what_cannot_be_done_is_one_line(collection: Path, tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    process = start(collection, tmp_path / "bundle", *flags)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said in err
    assert err.count("\n") == 1
