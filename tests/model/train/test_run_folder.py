"""A run's folder: what is refused before anything is written, and what a full disk or a torn file leaves."""

import errno
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import files
from model.train.run_folder import RunFolder
from model.train.schedule import Rates, Stalls
from model.train.state import BadRun, RunProgress, State, differences
from tests.model.test_checkpoint import made
from tests.model.train.runs import Seen, assert_same_bits, saved, trained
from tests.model.train.tasks import task
from tests.test_files import traced

OLD_FORMAT = "fc7 training state 1"  # velocities, of a rate inside them


def test_a_run_is_not_started_over_another(straight: tuple[Path, Seen]) -> None:
    path, _ = straight
    with pytest.raises(BadRun, match="holds a run already: --resume goes on with it"):
        RunFolder(path, {"seed": 0}).begin(resume=False)


def test_the_names_of_a_new_runs_folders_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut takes away the whole run, however well its files were synced."""
    events = traced(monkeypatch)
    with closing(RunFolder(tmp_path / "runs" / "new", {"seed": 0})) as folder:
        folder.claim(network=0, state=0)
    assert events == [f"sync {tmp_path.name}", "sync runs"]


def test_a_run_is_not_resumed_as_another(straight: tuple[Path, Seen]) -> None:
    path, _ = straight
    with pytest.raises(BadRun, match=r"another run.*: recipe was None, is \{'batch': 4\}; seed was 0, is 7"):
        RunFolder(path, {"seed": 7, "recipe": {"batch": 4}}).begin(resume=True)


def test_differences_go_into_nested_settings() -> None:
    assert list(differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 9}, "d": 3})) == ["a.c was 2, is 9"]


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_state_is_one_clear_line(length: int, straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    (tmp_path / "state.safetensors").write_bytes((path / "state.safetensors").read_bytes()[:length])
    with pytest.raises(BadRun, match="not a whole training state"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


@pytest.mark.parametrize("about", ["{", "{}", '{"progress": {}}', '{"identity": {}, "progress": {"step": 1}}'])
def test_a_state_whose_description_is_damaged_is_one_clear_line(about: str, tmp_path: Path) -> None:
    metadata = {"format": "fc7 training state 2", "about": about}
    save_file({"weights/fc8.bias": torch.zeros(2)}, tmp_path / "state.safetensors", metadata)
    with pytest.raises(BadRun, match="not a whole training state"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_a_checkpoint_is_not_a_state(straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    shutil.copy(path / "checkpoint.safetensors", tmp_path / "state.safetensors")
    with pytest.raises(BadRun, match="format is 'fc7 checkpoint 1'"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_a_state_of_an_older_format_is_one_clear_line(straight: tuple[Path, Seen], tmp_path: Path) -> None:
    path, _ = straight
    with safe_open(path / "state.safetensors", framework="pt") as file:
        about = file.metadata()
    save_file({"velocity/fc8.bias": torch.zeros(2)}, tmp_path / "state.safetensors", about | {"format": OLD_FORMAT})
    with pytest.raises(BadRun, match=r"its format is 'fc7 training state 1', this code reads 'fc7 training state 2'"):
        RunFolder(tmp_path, {"seed": 0}).begin(resume=True)


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadRun, match="free on this disk, a run of this network needs 9000000.0 GB"):
        RunFolder(tmp_path / "run", {}).claim(network=10**15, state=2 * 10**15)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_may_not_be_looked_into_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(BadRun, match="run: cannot be written: Permission denied"):
        RunFolder(tmp_path / "run", {}).claim(network=1, state=1)


def test_what_a_resume_replaces_counts_as_space_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best network is a second name of an epoch's file: removing it frees the file's size, not twice that."""
    run, epoch = tmp_path / "run", tmp_path / "run" / "epochs" / "0001.safetensors"
    epoch.parent.mkdir(parents=True)
    epoch.write_bytes(bytes(1000))
    files.link(epoch, run / "best.safetensors")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=599))
    folder = RunFolder(run, {}, keep=1)
    with pytest.raises(BadRun, match="0 MB free on this disk, a run of this network needs 0 MB"):
        folder.claim(network=100, state=600)  # 1600: two states, an epoch kept and one written, best and last
    folder.close()
    folder.claim(network=100, state=599)
    folder.close()


def test_a_folder_that_is_held_says_so_whatever_the_disk_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that holds it removes files, so that nobody else can add up their sizes."""
    first, second = RunFolder(tmp_path, {}), RunFolder(tmp_path, {})
    first.claim(network=1, state=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: pytest.fail("the disk was asked for its space"))
    with pytest.raises(BadRun, match="another process trains here"):
        second.claim(network=1, state=1)
    first.close()


def test_a_file_of_another_name_among_the_epochs_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {}, keep=1)
    (tmp_path / "epochs").mkdir()
    copy = tmp_path / "epochs" / "0001 (copy).safetensors"
    copy.touch()
    for epoch in (9, 10):
        folder.keep_epoch(epoch, made(), is_best=False)
    assert sorted(file.name for file in copy.parent.iterdir()) == [copy.name, "0010.safetensors"]
    assert folder.last_good() == tmp_path / "epochs" / "0010.safetensors"


def test_a_disk_that_fills_up_leaves_the_last_state_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = task()
    trained(tmp_path / "run", of, stop_after=5)
    before = saved(tmp_path / "run")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        BadRun, match="no space left on the disk; make room and run it again: what was finished is kept"
    ):
        trained(tmp_path / "run", of, resume=True)
    monkeypatch.undo()
    assert_same_bits(saved(tmp_path / "run"), before)
    assert not list((tmp_path / "run").rglob("*.part"))


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 9), losses=st.floats(0, 1e6), best=st.floats(0, 1) | st.just(float("inf")))
def test_progress_survives_the_file_to_the_bit(
    step: int, losses: float, best: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("state"), {"seed": 0})
    state = State(
        RunProgress(step, Rates(losses, 0.1), losses, Stalls(best, 1, 2), best, 3.5),
        {"a": torch.ones(2)},
        {"a": torch.zeros(2)},
    )
    folder.save(state)
    found = folder.begin(resume=True)
    assert found is not None
    assert found.progress == state.progress
