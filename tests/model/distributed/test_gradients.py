"""Gradients are averaged while the backward pass runs, in one order on all processes.

That the averages are right is held by test_columns.py, which compares every layout with one process."""

from typing import Any
from unittest.mock import MagicMock, patch

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from model.distributed.gradients import GradientAverager
from model.distributed.layout import Parallel
from model.distributed.rendezvous import join
from tests.model.distributed.test_columns import CPU, collectives
from tests.model.network.test_alexnet import SMALL
from tests.ranks import on_ranks

FEW_BYTES = patch("model.distributed.gradients.BUCKET", 1024)  # so that a small network fills several buckets


@pytest.mark.parametrize(("processes", "parallel"), [(2, "data"), (4, "columns"), (2, "hybrid")])
def test_collectives_start_before_the_last_gradient_is_ready(processes: int, parallel: Parallel) -> None:
    first, *others = on_ranks(processes, events_of_two_steps, parallel)
    for step in first:
        names = [name for name, _ in step]
        last_gradient = max(i for i, name in enumerate(names) if name == "ready")
        assert names.index("all_reduce") < last_gradient
        assert names.count("all_reduce") > 1
        assert names[-1] == "all_reduce", "what no bucket was full of goes last"
    assert others == [first] * len(others), "every process asks for the same collectives in the same order"


def events_of_two_steps(parallel: Parallel) -> list[list[tuple[str, Any]]]:
    """For each of two steps: collectives and the bytes handed over, and ("ready", parameter) as gradients appear."""
    with join(parallel, table=SMALL, classes=6, batch=8, device=CPU, settings={}, log=print) as placement:
        network = placement.network(SMALL, 6)
        events: list[list[tuple[str, Any]]] = []
        for name, parameter in network.named_parameters():
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda _, name=name: events[-1].append(("ready", name))
            )
        images, labels = torch.randn(8 // placement.replicas, 3, 16, 16), torch.zeros(8 // placement.replicas).long()
        for _ in range(2):
            with FEW_BYTES, collectives() as seen:
                events.append(seen)
                logits, _ = network(images)
                torch.autograd.backward(F.cross_entropy(logits, labels))
                placement.average_gradients()
        return events


def test_frozen_parameters_are_left_out() -> None:
    for means in on_ranks(2, average_with_a_frozen_one):
        assert means == [0.5, 1.5, 2.5, None, 4.5]


def average_with_a_frozen_one() -> list[float | None]:
    """Five parameters over several buckets; rank r's gradients are r more than rank 0's."""
    with join("data", table=SMALL, classes=6, batch=2, device=CPU, settings={}, log=print) as placement:
        parameters = [torch.zeros(3, 100, requires_grad=True) for _ in range(5)]
        assert dist.group.WORLD is not None
        averager = GradientAverager(parameters, dist.group.WORLD)
        parameters[3].requires_grad_(False)
        with patch("model.distributed.gradients.BUCKET", 2_000), collectives() as seen:
            sums = [(i + placement.replica) * parameter.sum() for i, parameter in enumerate(parameters)]
            torch.autograd.backward(torch.stack(sums).sum())
            averager.finish()
        assert [name for name, _ in seen] == ["all_reduce"] * 2
        return [None if p.grad is None else p.grad.mean().item() for p in parameters]


def test_a_failed_wait_leaves_nothing_for_the_next_step() -> None:
    weight = torch.zeros(4, requires_grad=True)
    averager = GradientAverager([weight], MagicMock(size=lambda: 2))
    lost, work = MagicMock(), MagicMock()
    lost.wait.side_effect = RuntimeError("the other process is gone")

    def step(work: MagicMock) -> None:
        weight.grad = None
        torch.autograd.backward(weight.sum())
        with patch.object(dist, "all_reduce", lambda *_, **__: work):
            averager.finish()

    with pytest.raises(RuntimeError, match="the other process is gone"):
        step(lost)
    step(work)
    lost.wait.assert_called_once()
    work.wait.assert_called_once()
    torch.testing.assert_close(weight.grad, torch.full((4,), 0.5))
