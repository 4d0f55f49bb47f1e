"""The demo refuses at once what it could only refuse after minutes of work."""

import socket
from pathlib import Path

import pytest

from scripts.command import Refused
from scripts.demo import Demo, demo
from service.port import PortTaken


def test_a_taken_port_is_told_before_anything_is_done(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1, port {port}: .*; choose another"):
            demo(Demo(root=tmp_path, port=port))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="images: not a folder"):
        demo(Demo(root=tmp_path / "out", images=tmp_path / "images", serve=False))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_there_is_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundles" / "cifar10").mkdir(parents=True)
    (tmp_path / "bundles" / "cifar10" / "CURRENT").write_text("0001\n")
    demo(Demo(root=tmp_path, serve=False))
    assert "is there: nothing to fetch or to train" in capsys.readouterr().out


def test_a_step_that_fails_ends_the_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("no image")
    with pytest.raises(Refused, match=r"ended with exit code 2; its message is above"):
        demo(Demo(root=tmp_path / "out", images=tmp_path / "images", serve=False))
    assert "prepare_dataset.py: " in capfd.readouterr().err
    assert not list(tmp_path.glob("out/runs"))
