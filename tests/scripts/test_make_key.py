"""A key that is made opens the service, its file holds a hash alone, and what is there stays."""

import stat
from pathlib import Path

import pytest

import files
from service.keys import Keys
from tests.scripts.helptext import called


def made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    """Return the exit code, what was printed, and the errors."""
    code = called(("make_key", *flags), monkeypatch)
    said = capsys.readouterr()
    return code, said.out.strip(), said.err


def test_a_made_key_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    _, first, _ = made(monkeypatch, capsys, "--keys", str(file), "--name", "ann")
    keys = Keys(file)
    flags = ("--keys", str(file), "--name", "bob", "--roles", "write", "metrics")
    code, second, error = made(monkeypatch, capsys, *flags)
    ann, bob = keys.find(first), keys.find(second)
    assert ann is not None
    assert bob is not None
    assert (code, error, ann.name, sorted(ann.roles), sorted(bob.roles)) == (
        0,
        "",
        "ann",
        ["read"],
        ["metrics", "write"],
    )
    assert len(first) == len(second) == 4 + 43
    assert first not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_comments_and_rights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the laboratory")
    file.chmod(0o600)
    made(monkeypatch, capsys, "--keys", str(file), "--name", "ann")
    assert file.read_text().startswith("# of the laboratory\nann read ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    expected = "make_key.py: the new line: accepted is NAME ROLES HASH, as scripts/make_key.py writes it\n"
    assert made(monkeypatch, capsys, "--keys", str(file), "--name", "a b") == (2, "", expected)
    nowhere = tmp_path / "none" / "keys"
    expected = f"make_key.py: {nowhere}: cannot be written: No such file or directory\n"
    assert made(monkeypatch, capsys, "--keys", str(nowhere), "--name", "ann") == (2, "", expected)
    expected = "make_key.py: --keys .: a file is accepted, not a folder\n"
    assert made(monkeypatch, capsys, "--keys", ".", "--name", "ann") == (2, "", expected)
    file.write_text("ann read\n")
    code, out, error = made(monkeypatch, capsys, "--keys", str(file), "--name", "ann")
    assert (code, out, error[:33]) == (2, "", f"make_key.py: {file}"[:33])
    assert file.read_text() == "ann read\n"
    file.write_text("# full\n" * 1000)
    code, out, error = made(monkeypatch, capsys, "--keys", str(file), "--name", "ann")
    assert (code, out, "has 1,000 lines, the most that the service reads" in error) == (2, "", True)
    with files.locked(tmp_path / "keys.lock"):
        busy = f"make_key.py: {file}: another make_key.py writes it; run this again\n"
        assert made(monkeypatch, capsys, "--keys", str(file), "--name", "ann") == (2, "", busy)
