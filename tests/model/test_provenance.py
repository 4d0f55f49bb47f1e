"""The commit is told where it can be, and its absence stops nothing."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model import provenance


def copied_to(folder: Path) -> Callable[[], str | None]:
    """`commit` of a copy of the module, which is asked about the folder that the copy is in."""
    folder.mkdir(parents=True)
    spec = importlib.util.spec_from_file_location("copied", shutil.copy(provenance.__file__, folder))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[], str | None] = module.commit
    return found


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    return subprocess.check_output(["git", "-C", str(folder), *author, *words], text=True).strip()


def test_the_commit_is_that_of_the_checkout_that_the_code_is_in(tmp_path: Path) -> None:
    commit = copied_to(tmp_path / "model")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    assert commit() == git(tmp_path, "rev-parse", "HEAD")


def test_no_checkout_is_no_commit(tmp_path: Path) -> None:
    assert copied_to(tmp_path / "model")() is None


def test_no_git_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() is None
