"""Processes with a column each are the one network: outputs, every gradient, twenty steps; and what they send."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from model.distributed.columns import Columns
from model.distributed.layout import Parallel, lay_out, sent
from model.distributed.rendezvous import join
from model.network.alexnet import AlexNet, initialise
from model.network.tables import CIFAR, PAPER, Table
from model.train.optimiser import SGD
from model.train.recipes import TrainingRecipe
from model.train.schedule import Rates
from tests.model.network.test_alexnet import AS_IN_2012, SMALL
from tests.ranks import on_ranks

CPU = torch.device("cpu")
CLASSES = 7  # 4 in the first column, 3 in the second
BATCH = 8
# All of torch's collectives on tensors: those whose second argument is what is sent, and those whose first is.
INTO = ("all_gather", "all_gather_single", "all_to_all", "all_to_all_single", "reduce_scatter", "reduce_scatter_single")
ALONE = ("all_reduce", "broadcast", "gather", "reduce", "scatter", "send", "isend", "recv", "irecv")


@dataclass(frozen=True)
class Learned:
    """What one process saw. Gradients and weights are in the one-process form, and only on the main process."""

    replica: int
    logits: Tensor  # of the first step
    embedding: Tensor
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]  # after the last step
    parameters: int  # held by this process
    sent: Counter[tuple[str, str]]  # in the first step
    collectives: list[tuple[str, int]]  # in the first step: name, bytes of what was handed over


@contextmanager
def collectives() -> Iterator[list[tuple[str, int]]]:
    """Every collective asked of torch.distributed in this block: its name, and the bytes of what was handed over."""
    seen: list[tuple[str, int]] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            given = arguments[1] if name in INTO else arguments[0]
            seen.append((name, given.nbytes))
            return real(*arguments, **named)

        return call

    with ExitStack() as stack:
        for name in (*INTO, *ALONE):
            if hasattr(dist, name):  # some have their name in newer releases of torch only
                stack.enter_context(patch.object(dist, name, counted(name, getattr(dist, name))))
        yield seen


def learn(
    table: Table,
    classes: int,
    dtype: torch.dtype,
    steps: int,
    parallel: Parallel,
    batch: int = BATCH,
    device: str = "cpu",
) -> Learned:
    """Train from fixed weights on fixed images, wherever this process is placed."""
    torch.compiler.set_stance("force_eager")  # for the rest of this process: so that one is as eager as several
    generator = torch.Generator().manual_seed(3)
    whole = dict(initialise(AlexNet(table, classes), generator).to(dtype).named_parameters())
    images = 60 * torch.randn((steps, batch, 3, table.crop, table.crop), generator=generator).to(dtype)
    labels = torch.randint(classes, (steps, batch), generator=generator)
    with join(
        parallel,
        table=table,
        classes=classes,
        batch=batch,
        device=torch.device(device),
        settings={"steps": steps},
        log=print,
    ) as placement:
        images, labels = images.to(placement.device), labels.to(placement.device)
        network = placement.network(table, classes).to(dtype)
        network.load_state_dict(placement.share(whole))
        parameters = dict(network.named_parameters())
        optimiser = SGD(parameters, TrainingRecipe(decay=0.01))
        few_bytes = patch("model.distributed.gradients.BUCKET", 1024)  # so that a small network fills several buckets
        rows = placement.rows(batch)
        for step in range(steps):
            masks = placement.masks(table, seed=1, step=step, batch=batch)
            with few_bytes, collectives() as seen:
                logits, embedding = network(images[step, rows].contiguous(memory_format=torch.channels_last), masks)
                loss = F.cross_entropy(logits, labels[step, rows]) / placement.columns
                torch.autograd.backward(loss)
                placement.average_gradients()
            if step == 0:
                first = logits.detach().cpu(), embedding.detach().cpu(), seen, Counter(getattr(placement, "sent", {}))
                gradients = placement.gather({name: p.grad for name, p in parameters.items() if p.grad is not None})
            optimiser.step(Rates(weights=1e-3, biases=2e-3))
        weights = placement.gather(parameters)
        held = sum(parameter.numel() for parameter in parameters.values())
        return Learned(placement.replica, first[0], first[1], gradients, weights, held, first[3], first[2])


def assert_same(got: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    """Relative to the tensor's norm: single weights near zero have no relative precision of their own."""
    assert got.shape == expected.shape, name
    error = float((got - expected).norm() / expected.norm())
    assert error <= tolerance, f"{name}: {error:.1e} > {tolerance:.0e}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "parallel", "table", "dtype", "tolerance", "steps"),
    [
        (2, "columns", SMALL, torch.float32, 1e-5, 20),
        (2, "columns", SMALL, torch.float64, 1e-10, 20),
        (4, "columns", SMALL, torch.float32, 1e-5, 20),
        (4, "columns", SMALL, torch.float64, 1e-10, 20),
        (2, "data", SMALL, torch.float64, 1e-10, 20),
        (2, "hybrid", SMALL, torch.float32, 1e-5, 20),
        (4, "hybrid", SMALL, torch.float64, 1e-10, 20),
        (2, "columns", AS_IN_2012, torch.float64, 1e-10, 3),
        (2, "hybrid", AS_IN_2012, torch.float64, 1e-10, 3),
        (2, "columns", CIFAR, torch.float32, 1e-5, 3),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value).removeprefix("torch."),
)
def test_processes_are_the_one_network(
    processes: int, parallel: Parallel, table: Table, dtype: torch.dtype, tolerance: float, steps: int
) -> None:
    (one,) = on_ranks(1, learn, table, CLASSES, dtype, steps, "auto")
    many = on_ranks(processes, learn, table, CLASSES, dtype, steps, parallel)
    for process in many:
        share = BATCH * table.columns // processes if parallel == "columns" else BATCH // processes
        rows = slice(process.replica * share, (process.replica + 1) * share)
        assert_same(process.logits, one.logits[rows], tolerance, "logits")
        assert_same(process.embedding, one.embedding[rows], tolerance, "embedding")
    assert many[0].gradients.keys() == many[0].weights.keys() == one.weights.keys()
    for name in one.weights:
        assert_same(many[0].gradients[name], one.gradients[name], tolerance, f"gradient of {name}")
        assert_same(many[0].weights[name], one.weights[name], tolerance, f"{name} after {steps} steps")
    assert not any(process.weights for process in many[1:]), "only the main process gathers"


@pytest.mark.parametrize(
    ("processes", "parallel"),
    [
        pytest.param(2, "columns", marks=pytest.mark.gpu(2)),
        pytest.param(2, "data", marks=pytest.mark.gpu(2)),
        pytest.param(2, "hybrid", marks=pytest.mark.gpu(2)),
        pytest.param(4, "columns", marks=pytest.mark.gpu(4)),
    ],
)
def test_processes_with_a_gpu_each_are_the_one_network(processes: int, parallel: Parallel) -> None:
    """Over NCCL, in float64: TF32 has no part in it."""
    (one,) = on_ranks(1, learn, SMALL, CLASSES, torch.float64, 5, "auto", BATCH, "cuda")
    many = on_ranks(processes, learn, SMALL, CLASSES, torch.float64, 5, parallel, BATCH, "cuda")
    for name in one.weights:
        assert_same(many[0].gradients[name], one.gradients[name], 1e-10, f"gradient of {name}")
        assert_same(many[0].weights[name], one.weights[name], 1e-10, f"{name} after 5 steps")


def pass_once(table: Table, classes: int, batch: int) -> tuple[int, Counter[tuple[str, str]], list[tuple[str, int]]]:
    """One forward and backward pass of a column: its parameters, the bytes it counted, the collectives it asked for."""
    with join("columns", table=table, classes=classes, batch=batch, device=CPU, settings={}, log=print) as placement:
        assert isinstance(placement, Columns)
        network = placement.network(table, classes)
        with collectives() as seen:
            logits, _ = network(torch.zeros(batch, 3, table.crop, table.crop))
            torch.autograd.backward(F.cross_entropy(logits, torch.zeros(batch, dtype=torch.int64)))
            placement.average_gradients()
        return sum(parameter.numel() for parameter in network.parameters()), placement.sent, seen


def test_the_papers_columns_send_what_the_paper_counts() -> None:
    """Counted in layers-145.cfg: floats an image that one column sends in each pass. fc8 is split like every other
    layer here, so its edge goes both ways (the 2012 code has fc8 on one GPU), and the columns' logits meet too."""
    floats = {"conv3": 13 * 13 * 128, "fc6": 6 * 6 * 128, "fc7": 2048, "fc8": 2048, "logits": 500}
    ranks = on_ranks(2, pass_once, PAPER, 1000, batch := 2)
    for parameters, counted, asked in ranks:
        # Half of 60,965,224, but conv3 and the dense layers see both columns: rows are cut, not columns.
        assert parameters == 60_965_224 // 2
        assert counted == {(edge, way): 4 * batch * floats[edge] for edge in floats for way in ("forward", "backward")}
        # Nothing else went: one gather an edge of exactly these bytes, and its transpose, which hands over both parts.
        forward = [("all_gather", 4 * batch * floats[edge]) for edge in floats]
        assert asked == forward + [("all_to_all_single", 2 * size) for _, size in reversed(forward)]


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "classes"), [("columns", 7), ("columns", 10), ("hybrid", 7), ("data", 7)])
def test_what_is_sent_is_what_was_planned(parallel: Parallel, classes: int) -> None:
    layout = lay_out(parallel, 4, SMALL, classes, BATCH)
    for rank in on_ranks(4, learn, SMALL, classes, torch.float32, 1, parallel):
        per_edge: Counter[str] = Counter()
        for (edge, _), size in rank.sent.items():
            per_edge[edge] += size
        planned = sent(layout, SMALL, classes, BATCH)
        averaged = planned.pop("gradients")
        assert per_edge == planned
        reduced = sum(size for name, size in rank.collectives if name == "all_reduce")
        ring = 2 * (layout.replicas - 1) * reduced // layout.replicas
        assert abs(averaged - ring) <= 4 * 13  # fc8's 7 rows of 13 numbers are 4 and 3


def test_the_highest_request_is_heard_everywhere_in_one_call() -> None:
    assert on_ranks(2, requests) == [[0, 0, 2, 1, 0]] * 2


def requests() -> list[int]:
    """Process 1 requests 2 at the second call, process 0 requests 1 at the second and the third."""
    with join("columns", table=SMALL, classes=CLASSES, batch=2, device=CPU, settings={}, log=print) as placement:
        rank = torch.distributed.get_rank()
        mine = [0, 2, 0, 0, 0] if rank else [0, 1, 1, 0, 0]
        return [placement.highest(request) for request in mine]


def test_share_and_gather_are_chunk_and_cat() -> None:
    main, other = on_ranks(2, there_and_back)
    assert main
    assert not other


def there_and_back() -> bool:
    """A round trip of tensors of one, two and four dimensions, even and uneven; whether anything was gathered."""
    whole = {"a": torch.arange(7.0), "b": torch.rand(6, 3), "c": torch.rand(4, 2, 3, 3)}
    whole = {name: tensor.double() for name, tensor in whole.items()}
    with join("columns", table=SMALL, classes=CLASSES, batch=2, device=CPU, settings={}, log=print) as placement:
        dist.broadcast(whole["b"], 0)
        dist.broadcast(whole["c"], 0)
        mine = placement.share(whole)
        assert len(mine["a"]) == (4, 3)[dist.get_rank()]
        back = placement.gather(mine)
        assert all(torch.equal(back[name], whole[name]) for name in back)
        return bool(back)


@pytest.mark.parametrize("parallel", ["columns", "hybrid"])
def test_processes_may_validate_on_any_number_of_images(parallel: Parallel) -> None:
    """Five: hybrid processes have three and two of them, columns all. As in 2012: what is halved is halved once."""
    (one,) = on_ranks(1, infer, "auto")
    for rank, process in enumerate(on_ranks(2, infer, parallel)):
        rows = slice(rank, None, 2) if parallel == "hybrid" else slice(None)
        for got, expected in zip(process, one, strict=True):
            assert_same(got, expected[rows], 1e-6, f"of process {rank}")


def infer(parallel: Parallel) -> tuple[Tensor, Tensor]:
    """Logits and embedding of this process's share of five images."""
    with join(parallel, table=AS_IN_2012, classes=CLASSES, batch=2, device=CPU, settings={}, log=print) as placement:
        generator = torch.Generator().manual_seed(0)
        whole = initialise(AlexNet(AS_IN_2012, CLASSES), generator).state_dict()
        network = placement.network(AS_IN_2012, CLASSES)
        network.load_state_dict(placement.share(whole))
        images = torch.randn(5, 3, 16, 16, generator=generator)
        with torch.inference_mode():
            logits, embedding = network(images[placement.replica :: placement.replicas])
        return logits, embedding
