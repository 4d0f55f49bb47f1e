"""The commit is told where it can be, and its absence stops nothing."""

import re
from pathlib import Path

import pytest

from model.provenance import commit


def test_no_git_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = commit()
    assert found is None or re.fullmatch("[0-9a-f]{40}", found)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None
