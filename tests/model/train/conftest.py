"""A run that several files of tests use."""

from pathlib import Path

import pytest

from tests.model.train.runs import Seen, trained
from tests.model.train.tasks import task


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A run that nothing disturbed."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    return path, trained(path, task())
