"""float32 is float32 wherever networks compute, the flags are put back, and "the same bits" is refused or meant."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.loader import Batch
from model.distributed.placement import OneProcess
from model.embed import Embedder
from model.precision import FIXED, WORKSPACE, NotDeterministic, deterministic, full_float32, use_bf16
from model.train.schedule import Rates
from model.train.step import Learner
from tests.model.test_checkpoint import made
from tests.model.test_embed import random_images
from tests.model.train.tasks import fresh, task
from tests.waiting import SECONDS

CPU = torch.device("cpu")
CUDNN: Any = torch.backends.cudnn  # its stubs lack `conv`
Flags = tuple[str, str, bool]


def flags() -> Flags:
    """Precision of convolutions and of products, and whether cuDNN repeats itself."""
    return CUDNN.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision, CUDNN.deterministic


@pytest.fixture
def tf32() -> Iterator[Flags]:
    """A process that computes in TF32 wherever it can."""
    products = torch.backends.cuda.matmul
    before = flags()
    CUDNN.conv.fp32_precision = products.fp32_precision = "tf32"
    yield "tf32", "tf32", before[2]
    CUDNN.conv.fp32_precision, products.fp32_precision, CUDNN.deterministic = before


def seen_by(network: torch.nn.Module) -> list[Flags]:
    """The flags of every forward pass of `network` from now on."""
    seen: list[Flags] = []
    network.register_forward_pre_hook(lambda *_: seen.append(flags()))
    return seen


@full_float32(repeatable=True)
def fail() -> None:
    assert flags() == ("ieee", "ieee", True)
    raise OSError("no")


def test_the_switch_is_put_back_after_an_error_too(tf32: Flags) -> None:
    with pytest.raises(OSError, match="no"):
        fail()
    assert flags() == tf32


def test_training_and_validation_compute_in_full_float32(tf32: Flags) -> None:
    of = task()
    learner = Learner(of, OneProcess(CPU), fresh(of).weights)
    seen = seen_by(learner.network)
    learner.scores()
    images, labels = torch.from_numpy(of.train.images(slice(16))), torch.from_numpy(of.train.labels[:16])
    learner.step(Batch(images, labels), 0, Rates(0.01, 0.01), colour=False)
    assert set(seen) == {("ieee", "ieee", False)}
    assert len(seen) > 1
    assert flags() == tf32


def test_the_embedder_computes_in_full_float32_and_repeats_itself(tf32: Flags) -> None:
    embedder = Embedder(made(), "cpu", "torch")
    seen = seen_by(embedder.forward._network)  # type: ignore[attr-defined]
    embedder(random_images(3))
    embedder.ten_views(random_images(3))
    assert set(seen) == {("ieee", "ieee", True)}
    assert flags() == tf32


@pytest.mark.gpu
@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("function", [F.conv2d, torch.matmul])
def test_a_gpu_in_full_float32_is_as_near_to_float64_as_a_cpu(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((256, 4096), (4096, 256)) if function is torch.matmul else ((8, 64, 13, 13), (64, 64, 3, 3))
    a, b = (torch.randn(shape, generator=random) for shape in shapes)
    truth = function(a.double(), b.double())
    with full_float32():
        result = function(a.cuda(), b.cuda()).cpu().double()
    assert (result - truth).norm() < 1e-5 * truth.norm()  # TF32: about 3e-4


def test_an_operation_without_a_deterministic_form_is_one_clear_line() -> None:
    into = torch.zeros(3)
    with (
        pytest.raises(NotDeterministic, match=r"^the same bits .*: put_ does not have a deterministic implementation$"),
        deterministic(CPU),
    ):
        into.put_(torch.tensor([1]), torch.tensor([1.0]))
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="another error"), deterministic(CPU):
        raise RuntimeError("another error")


def test_deterministic_algorithms_are_switched_on_and_back() -> None:
    with deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_cublas_is_given_a_workspace_that_repeats_itself_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setenv(WORKSPACE, "x")
    monkeypatch.delenv(WORKSPACE)
    with deterministic(gpu):
        assert os.environ[WORKSPACE] in FIXED
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with deterministic(gpu):
        assert os.environ[WORKSPACE] == ":16:8"
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with (
        pytest.raises(NotDeterministic, match="CUBLAS_WORKSPACE_CONFIG=:0:0: .* need :4096:8 or :16:8"),
        deterministic(gpu),
    ):
        pass
    assert not torch.are_deterministic_algorithms_enabled()


def test_bfloat16_only_where_the_device_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: {"avx512_bf16": capable})
        assert use_bf16("auto", CPU) is capable
        assert use_bf16("bf16", CPU)
        assert not use_bf16("fp32", CPU)


@pytest.mark.usefixtures("tf32")
def test_two_networks_in_two_threads_both_compute_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a service loads one while it answers with another."""
    first, second = (Embedder(made(), "cpu", "torch") for _ in range(2))
    begun, seen = {first: threading.Event(), second: threading.Event()}, []

    def pass_of(embedder: Embedder, other: Embedder, seconds: float) -> None:
        outputs = embedder.forward._outputs  # type: ignore[attr-defined]

        def wait(x: Tensor) -> tuple[Tensor, Tensor]:
            begun[embedder].set()
            begun[other].wait(seconds)
            time.sleep(seconds / 10)  # the other one ends
            seen.append(flags())
            found: tuple[Tensor, Tensor] = outputs(x)
            return found

        monkeypatch.setattr(embedder.forward, "_outputs", wait)

    pass_of(first, second, 0.1)
    pass_of(second, first, 1.0)
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first, random_images(1))
        assert begun[first].wait(SECONDS)
        for done in (one, threads.submit(second, random_images(1))):
            done.result()
    assert seen == [("ieee", "ieee", True)] * 2
