"""Each collection gives its images encoded, so that decoding them gives the stored image again."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from model import originals
from model.data.encoded import EncodedSource
from model.data.folders import folder_source, open_source
from model.data.packing import pack
from model.data.rows import ArraySource
from model.preprocess import stored_image
from tests.images import encoded, photograph


@pytest.fixture
def folder(tmp_path: Path) -> EncodedSource:
    for seed in range(3):
        (tmp_path / "images" / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "cat" / f"{seed}.jpg").write_bytes(encoded(photograph(60, 40, seed=seed), "JPEG"))
    return folder_source(tmp_path / "images", 32)


def test_a_file_is_given_as_it_is(folder: EncodedSource) -> None:
    data = Path(folder.images[1].file).read_bytes()
    assert originals(folder)("cat/1.jpg") == (data, hashlib.sha256(data).hexdigest())
    assert originals(folder)("cat/9.jpg") is None
    Path(folder.images[1].file).unlink()
    assert originals(folder)("cat/1.jpg") is None


def test_a_packed_image_is_given_as_a_file_of_the_same_pixels(folder: EncodedSource, tmp_path: Path) -> None:
    pack(tmp_path / "packed", {"train": folder})
    packed = open_source(tmp_path / "packed", 32)
    names = [name for name, _, _ in packed.entries()]
    items = packed.read(0, 3, known=())
    array = ArraySource(
        np.stack([item.image for item in items if item.image is not None]), np.zeros(3, int), names, ("one",), "f"
    )
    for source in (packed, array):
        for item in items:
            found = originals(source)(item.name)
            assert found is not None
            np.testing.assert_array_equal(stored_image(found[0], 32), item.image)
            assert found[1] == item.content
