"""Processes that cannot train together say so in one line, on the main one, before anything is written."""

import os
import socket
from collections.abc import Mapping

import pytest
import torch

from model.distributed.layout import LayoutError, Parallel
from model.distributed.placement import OneProcess
from model.distributed.rendezvous import join
from model.network.alexnet import CIFAR
from tests.ranks import on_ranks


def attempt(parallel: Parallel, per_rank: Mapping[int, Mapping[str, object]], variables: Mapping[str, str]) -> str:
    """Join with the settings of this rank; what was said, or how this process left."""
    os.environ.update(variables)
    settings = per_rank.get(int(os.environ["RANK"]), {})
    try:
        with join(
            parallel, table=CIFAR, classes=10, batch=12, device=torch.device("cpu"), settings=settings, log=print
        ):
            return "joined"
    except LayoutError as error:
        return str(error)
    except SystemExit as leave:
        return f"exit {leave.code}"


def test_processes_with_different_arguments_refuse_to_train() -> None:
    per_rank = {0: {"seed": 0, "batch": 128}, 1: {"seed": 0, "batch": 64}}
    assert on_ranks(2, attempt, "auto", per_rank, {}) == ["process 1 was given batch=64, process 0 batch=128", "exit 2"]


def test_a_world_that_does_not_divide_refuses() -> None:
    said = on_ranks(3, attempt, "columns", {}, {})
    assert said[0].startswith("3 processes do not divide into networks of 2 columns")
    assert said[1:] == ["exit 2", "exit 2"]


def test_three_processes_are_three_replicas_when_nothing_is_asked_for() -> None:
    assert on_ranks(3, attempt, "auto", {}, {}) == ["joined"] * 3


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (said,) = on_ranks(
            1,
            attempt,
            "data",
            {},
            # As two processes started by hand, of which this is the first: it opens the store itself.
            {"WORLD_SIZE": "2", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"},
        )
    assert said == f"the processes cannot meet at 127.0.0.1:{port}: that port is taken"


def test_one_process_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    heard: list[str] = []
    with join(
        "auto", table=CIFAR, classes=10, batch=1, device=torch.device("cpu"), settings={}, log=heard.append
    ) as placement:
        assert isinstance(placement, OneProcess)
    assert not heard
