"""What the tests of indexing share."""

from pathlib import Path

import pytest

from model import checkpoint
from scripts.build_index import Config
from tests.model.test_checkpoint import made
from tests.scripts.indexing.runs import photo


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Three images without folders, at 18 pixels."""
    checkpoint.save(tmp_path / "network", made())
    for number in range(3):
        photo(tmp_path / "images" / f"{number}.png", number)
    return Config(checkpoint=tmp_path / "network", images=tmp_path / "images", bundle=tmp_path / "bundle", device="cpu")
