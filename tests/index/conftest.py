"""Where the tests of the store write, and the checkpoint that their bundles hold."""

from pathlib import Path

import pytest


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(bytes(range(256)) * 10)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a bundle is made."""
    return tmp_path / "bundle"
