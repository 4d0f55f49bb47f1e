"""Processes that cannot train together say so in one line, on the main one, before anything is written."""

import contextlib
import os
import socket
import weakref
from collections.abc import Mapping
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from model.distributed.columns import Columns
from model.distributed.layout import LayoutError, Parallel
from model.distributed.placement import OneProcess
from model.distributed.rendezvous import join
from model.network.tables import CIFAR
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


@pytest.mark.parametrize("parallel", ["columns", "data"])
def test_when_one_process_fails_all_end_and_leave_the_group(parallel: Parallel) -> None:
    ends = on_ranks(2, fail_in_a_backward_pass, parallel, time_out=60)
    assert ends[1] == ("ZeroDivisionError", False)
    kind, in_group = ends[0]
    assert kind == "RuntimeError", "its collective is told that the other process is gone"
    assert not in_group


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_nothing_refers_to_a_group_that_was_left(error: type[Exception] | None) -> None:
    """Else a process over gloo ends with SIGABRT in one run of three, where an exit code was promised."""
    assert on_ranks(2, groups_left, error, time_out=60) == [0, 0]


def groups_left(error: type[Exception] | None) -> int:
    """Leave `join` with this error, which every process raises. Return how many of its groups are still in memory."""
    groups: list[weakref.ref[dist.ProcessGroup]] = []
    with (
        contextlib.suppress(ZeroDivisionError),
        join("columns", table=CIFAR, classes=10, batch=4, device=torch.device("cpu"), settings={}, log=print) as here,
    ):
        assert isinstance(here, Columns)
        groups += [weakref.ref(here._across_replicas), weakref.ref(here._across_columns)]
        if error is not None:
            raise error
    return sum(group() is not None for group in groups)


def fail_in_a_backward_pass(parallel: Parallel) -> tuple[str, bool]:
    """Process 1 fails between two gradients of step 1; its request of step 0 is in flight. Return the error that this
    process left `join` with, and whether it is still in the process group."""

    def fail(gradient: torch.Tensor) -> None:
        del gradient
        raise ZeroDivisionError

    try:
        with (
            join(
                parallel, table=CIFAR, classes=10, batch=4, device=torch.device("cpu"), settings={}, log=print
            ) as here,
            patch("model.distributed.gradients.BUCKET", 1024),
        ):
            network = here.network(CIFAR, 10)
            for step in range(3):
                if step == 1 and dist.get_rank() == 1:
                    network.get_parameter("fc6.weight").register_hook(fail)  # type: ignore[no-untyped-call]
                logits, _ = network(torch.randn(4 // here.replicas, 3, 28, 28))
                torch.autograd.backward(logits.sum())
                here.average_gradients()
                here.highest(0)
    except (RuntimeError, ZeroDivisionError) as error:
        return type(error).__name__, dist.is_initialized()
    return "nothing", dist.is_initialized()
