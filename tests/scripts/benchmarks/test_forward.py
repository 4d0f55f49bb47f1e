"""The forward pass's benchmark: what is compared, that all of it is the same network, and what the ratios mean."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoint import save
from model.network.tables import TABLES
from scripts.benchmarks import forward, forward_forms
from scripts.benchmarks.forward import PLAIN, Pass, Start, forms_of, measure, shown
from scripts.benchmarks.forward_forms import BEFORE, PEERS, Form
from scripts.benchmarks.settings import Forward
from scripts.command import Refused
from tests.model.forward.test_graph import BASE

ROOT = Path(__file__).parents[3]
TINY = Forward(preset="cifar", batch=(1, 3), classes=5, images=2, rounds=1, device="cpu")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Small networks in threads of this process, where every start takes no time; a note of each kept memory."""
    kept: list[None] = []
    forward_forms.opened.cache_clear()
    forward_forms.noise.cache_clear()
    monkeypatch.setitem(TABLES, "cifar", BASE)
    monkeypatch.setattr(forward, "own_process", lambda: ThreadPoolExecutor(1))
    monkeypatch.setattr(forward, "use_bf16", lambda *_: False)
    monkeypatch.setattr(forward_forms, "keep_freed_memory", lambda: kept.append(None))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    return kept


def test_every_form_is_timed_at_every_batch_size(kept: list[None]) -> None:
    found = measure(TINY)
    names = [PLAIN, *PEERS, "fc7, openvino", "fc7, torch", BEFORE]
    passes = [row for row in found if isinstance(row, Pass)]
    assert [(row.batch, row.form) for row in passes] == [(batch, name) for batch in (1, 3) for name in names]
    assert [row.engine for row in found if isinstance(row, Start)] == ["openvino", "torch"]
    assert len(kept) == 2  # as it was, memory was not kept, and the baselines have glibc as it comes
    assert all(row.slowest <= row.images_per_s <= row.fastest for row in passes)
    lines = [line.split("|") for line in shown(TINY, found).splitlines()]
    assert [line[2].strip() for line in lines if line[1:2] and line[1].strip() == "3"] == [
        f"{name}, float32" for name in names
    ]


def test_ratios_are_to_the_best_baseline_and_to_what_was(kept: list[None]) -> None:  # noqa: ARG001
    rows = {row.form: row for row in measure(replace(TINY, batch=(2,))) if isinstance(row, Pass)}
    best = max(rows[name].images_per_s for name in (PLAIN, *PEERS))
    ours, before = rows["fc7, openvino"], rows[BEFORE]
    assert ours.of_best == pytest.approx(ours.images_per_s / best)
    assert ours.of_before == pytest.approx(ours.images_per_s / before.images_per_s)
    assert before.of_before == 1
    assert rows[PLAIN].of_before is None


@pytest.mark.parametrize(
    ("change", "refused"), [(lambda x: x * 1.0001, True), (lambda x: x * 1.000001, False), (lambda x: x * np.nan, True)]
)
def test_a_form_that_gives_something_else_is_refused(
    change: Callable[[Any], Any], refused: bool, kept: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = forward_forms.onnx_runtime

    def changed(file: Path) -> forward_forms.Infer:
        infer = right(file)
        return lambda x: (infer(x)[0], change(infer(x)[1]))

    monkeypatch.setattr(forward_forms, "onnx_runtime", changed)
    if refused:
        with pytest.raises(Refused, match="^ONNX Runtime, float32, gives other outputs than plain torch: .* largest$"):
            measure(TINY)
    else:
        measure(replace(TINY, batch=(1,)))
    assert bool(kept) == (not refused)


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forward, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert list(forward.installed_peers()) == ["OpenVINO straight"]
    assert capsys.readouterr().err == ("left out: ONNX Runtime, which needs onnxruntime: pip install -e .[peers]\n")


def test_a_precision_that_the_processor_has_not_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forward, "use_bf16", lambda *_: False)
    assert list(forward.precisions("cpu")) == ["float32"]
    assert capsys.readouterr().err == "left out: bfloat16, which cpu has no arithmetic for\n"


def test_what_is_compared_depends_on_the_device_and_the_precision() -> None:
    def names(device: str, *rest: Any) -> list[str]:
        return [form.name for form in forms_of(device, ("openvino", "torch"), *rest)]

    assert names("cpu", "bfloat16", list(PEERS)) == [PLAIN, "OpenVINO straight", "fc7, openvino", "fc7, torch"]
    assert names("cuda", "float32", []) == [PLAIN, "fc7, torch", BEFORE]


def test_fc7_takes_a_large_batch_in_its_own_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the batch job does; as it was, in passes of 64."""
    monkeypatch.setitem(TABLES, "cifar", BASE)
    file, sizes = tmp_path / "checkpoint.safetensors", list[int]()
    save(file, forward.checkpoint_of(TINY))
    one_pass = forward_forms.one_pass

    def noted(embedder: Any, x: Any) -> forward_forms.Outputs:
        sizes.append(len(x))
        return one_pass(embedder, x)

    monkeypatch.setattr(forward_forms, "one_pass", noted)
    monkeypatch.setattr(forward_forms, "keep_freed_memory", lambda: None)
    for name in ("fc7, torch", BEFORE):
        logits, features = forward_forms.outputs(Form(name, "float32", "cpu"), file, 70)
        assert (logits.shape, features.shape) == ((70, 5), (70, BASE.width))
    assert sizes == [70, 64, 6]


@pytest.mark.slow
def test_the_command_measures_in_processes_of_their_own() -> None:
    flags = ["--preset", "cifar", "--batch", "2", "--images", "2", "--rounds", "1", "--engine", "openvino"]
    command = [sys.executable, "scripts/benchmark.py", "forward", *flags, "--device", "cpu", "--json"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=280)
    rows = json.loads(said.stdout)["rows"]
    assert {row["form"] for row in rows if "form" in row} == {PLAIN, *PEERS, "fc7, openvino", BEFORE}
    (start,) = (row for row in rows if "engine" in row)
    assert 0 < start["fastest"] <= start["seconds"] <= start["slowest"]
