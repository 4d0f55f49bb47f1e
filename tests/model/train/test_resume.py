"""All processes go on from the same state, or every one of them is refused in words and none waits for another."""

import os
from pathlib import Path

import pytest

import files
from model.train.config import TrainConfig
from model.train.run_folder import RunFolder
from model.train.state import BadRun
from tests.model.train.test_run import MANY, packed, start
from tests.ranks import on_ranks


def refusal(config: TrainConfig, disks: list[Path]) -> str | None:
    """Train on this process's own disk; return what it was refused with."""
    os.chdir(disks[int(os.environ["RANK"])])
    try:
        start(config)
    except BadRun as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run in the working folder: each process may have its own."""
    data = packed(tmp_path_factory.mktemp("data") / "set", MANY)
    return TrainConfig(data=data, out=Path("run"), epochs=1, batch=100, device="cpu", precision="fp32", resume=True)


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run", {}), RunFolder(tmp_path / "run", {})
    first.claim(network=1, state=1)
    with pytest.raises(BadRun, match="another process trains here"):
        second.claim(network=1, state=1)
    first.close()
    second.claim(network=1, state=1)
    second.close()


def test_a_folder_that_is_held_refuses_every_process(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with files.locked(tmp_path / "run" / "lock"):
        refusals = on_ranks(2, refusal, config, [tmp_path, tmp_path], time_out=60)
    assert refusals == ["run: another process trains here; wait for it, or name another --out"] * 2
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["lock"]
