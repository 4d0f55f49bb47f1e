"""The records of a run: a line an epoch however often it was killed, Figure 3, curves."""

import errno
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from model.train.log import RunLog, curves, epochs, kernels
from model.train.state import BadRun
from tests.model.train.runs import STEPS, Seen


def test_the_log_has_one_line_an_epoch_however_often_killed(tmp_path: Path, straight: tuple[Path, Seen]) -> None:
    """A line that was written after the state a run goes on from is written again, not twice."""
    _, callback = straight
    log = RunLog(tmp_path, {"seed": 0})
    log.begin(STEPS, 0, 16)
    for epoch in callback.epochs[:2]:
        log.epoch(epoch, torch.rand(8, 3, 3, 3))
    log.path.write_text(log.path.read_text() + '{"kind": "epoch", "torn')
    again = RunLog(tmp_path, {"seed": 0})
    again.begin(STEPS, 8, 16)  # the state knew one epoch
    for epoch in callback.epochs[1:]:
        again.epoch(epoch, torch.rand(8, 3, 3, 3))
    again.end(True)
    assert [line["epoch"] for line in epochs(log.path)] == [1, 2, 3]
    assert json.loads(log.path.read_text().splitlines()[0])["steps"] == STEPS
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("content", [b"hello\n", b"[]\n", b"{}\n", b"\xff\n"])
def test_a_damaged_log_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(BadRun, match=r"log\.jsonl: not a run's log \("):
        RunLog(tmp_path, {}).begin(STEPS, 0, 16)


def test_a_full_disk_is_one_clear_line(
    tmp_path: Path, straight: tuple[Path, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log, (_, callback) = RunLog(tmp_path, {}), straight
    log.begin(STEPS, 0, 16)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadRun, match=r"log\.jsonl: no space left on the disk"):
        log.epoch(callback.epochs[0], torch.rand(8, 3, 3, 3))
    with pytest.raises(BadRun, match=r"log\.jsonl: no space left on the disk"):
        RunLog(tmp_path, {}).begin(STEPS, 0, 16)
    log.end(False)


def test_figure_3_is_sixteen_kernels_a_row_in_one_brightness_range() -> None:
    weights = torch.zeros(96, 3, 11, 11)
    weights[0, 0], weights[95, 2] = -1.0, 3.0
    image = kernels(weights)
    assert image.shape == (4 * (6 * 12 - 1), 4 * (16 * 12 - 1), 3)
    assert image[0, 0].tolist() == [0, 64, 64]  # -1 is the darkest of all, 0 a quarter up
    assert image[-1, -1].tolist() == [64, 64, 255]
    assert image[4 * 11, 4 * 11].tolist() == [255, 255, 255]  # the gap


def test_curves_of_one_epoch(tmp_path: Path, straight: tuple[Path, Seen]) -> None:
    _, callback = straight
    line = json.loads(json.dumps({"kind": "epoch", **asdict(callback.epochs[0])}))
    curves([line], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000
