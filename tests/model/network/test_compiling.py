"""Where torch.compile cannot work, the network runs eager, and one line says so."""

import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from model.distributed.placement import OneProcess
from model.network.alexnet import initialise
from model.network.compiling import can_compile
from model.network.dropout import dropout_masks
from tests.model.network.test_alexnet import SMALL

CPU = torch.device("cpu")


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What this project logged; torch logs its own steps."""
    return [record for record in caplog.records if record.name.startswith("model.")]


def test_a_backend_that_works_is_trusted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert can_compile(CPU)
    assert not said(caplog)


def test_a_backend_that_fails_is_said_once_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("fatal error: Python.h: No such file or directory\ncompilation terminated." + " etc." * 99)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing))
    assert not can_compile(CPU)
    (record,) = said(caplog)
    assert record.levelno == logging.WARNING
    assert "torch.compile fails on cpu, so the network runs eager" in record.message
    assert "Python.h: No such file" in record.message
    assert "\n" not in record.message


@pytest.mark.slow
def test_a_compiler_that_fails_does_not_end_the_process(tmp_path: Path) -> None:
    """A real one: on a CPU, torch.compile needs a C++ compiler as it needs a C compiler on a GPU."""
    program = "import torch; from model.network.compiling import can_compile; print(can_compile(torch.device('cpu')))"
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **caches, "CXX": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ran.stdout == "False\n"
    assert "torch.compile fails on cpu, so the network runs eager" in ran.stderr


def test_a_cpu_is_not_compiled_for_and_a_gpu_is_where_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not OneProcess(CPU).compiled
    for works in (True, False):
        monkeypatch.setattr("model.distributed.placement.can_compile", lambda _, works=works: works)
        assert OneProcess(torch.device("cuda")).compiled is works


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # a compiler's remarks differ from version to version
def test_a_compiled_bfloat16_step_on_a_gpu_is_the_eager_one() -> None:
    gpu = torch.device("cuda")
    place = OneProcess(gpu)
    assert place.compiled, "this machine's torch.compile does not work"
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(gpu)
    masks = dropout_masks(SMALL, seed=0, step=0, batch=8, rows=slice(None), columns=(0, 1), device=gpu)
    found = []
    for compiled in (True, False):
        place.compiled = compiled
        network = initialise(place.network(SMALL, 3).to("cpu"), torch.Generator().manual_seed(0)).to(gpu)
        with torch.autocast("cuda", torch.bfloat16):
            logits, embedding = network(x.contiguous(memory_format=torch.channels_last), masks)
        gradients = torch.autograd.grad(logits.float().square().sum(), list(network.parameters()))
        found.append([logits.float(), embedding.float(), *gradients])
    for fast, eager in zip(*found, strict=True):
        assert (fast - eager).norm() <= 0.05 * eager.norm()  # bfloat16 rounds to 8 bits, a few times in a row
