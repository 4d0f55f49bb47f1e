"""The file of keys: what it may hold, and that a change counts from the next request on."""

import os
from pathlib import Path

import pytest

from service.keys import BYTES, LINES, Keys, KeysUnusable, line
from tests.service.doors import write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys", "# who asks", "", line("ann", ("read",), "a"), line("bob", ("read", "write"), "b"))


def test_a_key_is_found_by_its_hash(file: Path) -> None:
    keys = Keys(file)
    ann, bob = keys.find("a"), keys.find("b")
    assert ann is not None
    assert bob is not None
    assert (ann.name, sorted(ann.roles), bob.name, sorted(bob.roles)) == ("ann", ["read"], "bob", ["read", "write"])
    assert [
        keys.find(other)
        for other in ("", "A", "ab", "ann", ann.digest.hex(), "\udce9".encode("utf-8", "replace").decode())
    ] == [None] * 6


def test_every_entry_is_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    keys = Keys(file)
    for key in ("a", "b", "c"):
        keys.find(key)
        assert len(compared) == 2, "a found key ends the comparison early"
        compared.clear()


def test_a_changed_file_counts_at_once(file: Path) -> None:
    keys = Keys(file)
    write(file, line("ann", ("read",), "a"), line("ann", ("read",), "new"))
    assert [keys.find(key) is not None for key in ("a", "b", "new")] == [True, False, True]
    write(file, line("ann", ("read",), "new"))
    assert [keys.find(key) is not None for key in ("a", "b", "new")] == [False, False, True]
    write(file)
    assert keys.find("new") is None
    assert keys.is_current()


def test_a_broken_file_changes_nothing_and_is_told_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(file)
    write(file, "ann read")
    assert [keys.find("a") is not None for _ in range(3)] == [True] * 3
    assert not keys.is_current()
    assert caplog.messages == [
        f"{file}, line 1: accepted is NAME ROLES HASH, as scripts/make_key.py writes it; "
        "the keys that were read before stay in use"
    ]
    file.unlink()
    assert keys.find("a") is not None
    assert not keys.is_current()
    write(file, line("ann", ("read",), "new"))
    assert [keys.find(key) is not None for key in ("a", "new")] == [False, True]
    assert keys.is_current()
    file.chmod(0o666)
    assert not keys.is_current()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ann read", ", line 2: accepted is NAME ROLES HASH, as scripts/make_key.py writes it"),
        (f"a/b read {'0' * 64}", ", line 2: accepted is NAME ROLES HASH, as scripts/make_key.py writes it"),
        (f"ann read {'0' * 63}", ", line 2: accepted is NAME ROLES HASH, as scripts/make_key.py writes it"),
        (f"ann read,root {'0' * 64}", ", line 2: no role 'root'; accepted are read, write, admin, metrics"),
        (f"ann read {'0' * 64}\n" * LINES, ": more than 1,000 lines"),
        ("#" * BYTES, ": more than 200,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "keys", "# keys", text)
    with pytest.raises(KeysUnusable) as refused:
        Keys(file)
    assert str(refused.value) == f"{file}{reason}"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"other users may write it, and so give themselves keys: chmod go-w {file}"):
        Keys(file)
    file.chmod(0o644)
    Keys(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for a writer
    for name, reason in (
        ("pipe", "not a file"),
        (".", "cannot be read: Is a directory"),
        ("none", "cannot be read: No such file or"),
    ):
        with pytest.raises(KeysUnusable, match=reason):
            Keys(tmp_path / name)
