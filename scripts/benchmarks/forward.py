"""The forward pass of a whole network and the start of each engine, compared with what others would run."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from model.checkpoint import Checkpoint, save
from model.device import choose_device
from model.network.alexnet import AlexNet, initialise
from model.network.tables import TABLES
from model.precision import use_bf16
from model.preprocess import EmbeddingPrecision, Recipe
from scripts.benchmarks.forward_forms import BEFORE, PEERS, Form, outputs, round_of
from scripts.benchmarks.settings import Forward, check_positive
from scripts.benchmarks.timing import Timing, in_turn, own_process, table
from scripts.command import Refused

PLAIN = "plain torch"
NEAR: Mapping[EmbeddingPrecision, float] = {"float32": 1e-5, "bfloat16": 2e-2}  # of the largest value
CHECKED = 4  # images whose outputs are compared
START = """
import sys; from pathlib import Path; import numpy as np; from model import Embedder, load_checkpoint
embedder = Embedder(load_checkpoint(Path(sys.argv[1])), sys.argv[2], sys.argv[3])
embedder(np.zeros((1, *[embedder.recipe.stored] * 2, 3), np.uint8))
"""


@dataclass(frozen=True)
class Pass:
    """One form's figures at one batch size."""

    batch: int  # images in a pass
    form: str
    precision: EmbeddingPrecision
    images_per_s: float  # in the median round
    slowest: float  # images a second in the slowest round
    fastest: float
    of_best: float  # times the rate of the best baseline of this precision
    of_before: float | None  # times the rate of fc7 as it was, in float32


@dataclass(frozen=True)
class Start:
    """A process that imports, reads a checkpoint, answers for one image and ends."""

    engine: str
    seconds: float  # median
    fastest: float
    slowest: float


def measure(config: Forward) -> list[Pass | Start]:
    """Check every form, then time it at every batch size; then time starts. Raises NoSuchDevice, Refused."""
    check_positive(config, "batch", "classes", "images", "rounds")
    device = str(choose_device(config.device))
    found: list[Pass | Start] = []
    with tempfile.TemporaryDirectory() as folder:
        file, checkpoint = Path(folder) / "checkpoint.safetensors", checkpoint_of(config)
        save(file, checkpoint)
        peers = list(installed_peers()) if device == "cpu" else []
        if peers:
            from scripts.benchmarks.onnx_graph import write_onnx

            write_onnx(checkpoint, file.with_suffix(".onnx"))
        for precision in precisions(device):
            found += passes(config, forms_of(device, config.engine, precision, peers), file)
        found += starts(config, device, file)
    return found


def installed_peers() -> Iterator[str]:
    """The peers that can be measured here; a line on stderr for each that cannot."""
    for name, packages in PEERS.items():
        if absent := [package for package in packages if not find_spec(package)]:
            print(f"left out: {name}, which needs {', '.join(absent)}: pip install -e .[peers]", file=sys.stderr)
        else:
            yield name


def precisions(device: str) -> Iterator[EmbeddingPrecision]:
    """Those that the device computes in; a line on stderr says what is left out."""
    yield "float32"
    if use_bf16("auto", torch.device(device)):
        yield "bfloat16"
    else:
        print(f"left out: bfloat16, which {device} has no arithmetic for", file=sys.stderr)


def forms_of(device: str, engines: Sequence[str], precision: EmbeddingPrecision, peers: Sequence[str]) -> list[Form]:
    """The baselines, then ours. ONNX Runtime has no bfloat16 on CPUs."""
    whole = precision == "float32"
    with_it = [peer for peer in peers if whole or peer != "ONNX Runtime"]
    names = [PLAIN, *with_it, *(f"fc7, {engine}" for engine in engines), *([BEFORE] if whole else [])]
    return [Form(name, precision, device) for name in names if device == "cpu" or name != "fc7, openvino"]


def checkpoint_of(config: Forward) -> Checkpoint:
    """Return the preset's network, its weights as in He et al. 2015, so that what it gives depends on the image."""
    of = TABLES[config.preset]
    table = replace(of, rows=tuple(replace(row, std=None) for row in of.rows))
    network = initialise(AlexNet(table, config.classes), torch.Generator().manual_seed(0))
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    names, mean = tuple(map(str, range(config.classes))), np.zeros((of.crop, of.crop, 3), np.float32)
    return Checkpoint(table, Recipe(of.crop, of.crop), names, weights, mean)


def passes(config: Forward, forms: Sequence[Form], file: Path) -> list[Pass]:
    """Open the forms, each in its process, check them, and time them. Raises Refused where one gives something else."""
    rows: list[Pass] = []
    with ExitStack() as stack:
        processes = {form: stack.enter_context(own_process()) for form in forms}
        check(processes, file)
        for batch in config.batch:
            works = {
                form.name: partial(_round, process, form, file, batch, max(1, config.images // batch))
                for form, process in processes.items()
            }
            rows += _rows(batch, forms, in_turn(works, config.rounds))
    return rows


def check(processes: Mapping[Form, Executor], file: Path) -> None:
    """Raise Refused where a form's outputs are not those of plain torch in float32."""
    with own_process() as process:
        wanted = process.submit(outputs, Form(PLAIN, "float32", "cpu"), file, CHECKED).result()
    for form, process in processes.items():
        found = process.submit(outputs, form, file, CHECKED).result()
        off = np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, wanted, strict=True)])
        if not off <= NEAR[form.precision]:  # nor where it is not a number
            raise Refused(f"{form.name}, {form.precision}, gives other outputs than {PLAIN}: {off:.1e} of the largest")


def _round(process: Executor, form: Form, file: Path, batch: int, count: int) -> int:
    return process.submit(round_of, form, file, batch, count).result()


def _rows(batch: int, forms: Sequence[Form], timings: Mapping[str, Timing]) -> list[Pass]:
    best = max(timings[form.name].rate for form in forms if not form.ours)
    before = timings[BEFORE].rate if BEFORE in timings else None
    rows = []
    for form in forms:
        timing = timings[form.name]
        slowest, fastest = timing.handled / max(timing.seconds), timing.handled / min(timing.seconds)
        of_before = timing.rate / before if before and form.ours else None
        rows.append(
            Pass(batch, form.name, form.precision, timing.rate, slowest, fastest, timing.rate / best, of_before)
        )
    return rows


def starts(config: Forward, device: str, file: Path) -> list[Start]:
    """Time whole processes, one engine in turn with the other."""

    def work(engine: str) -> int:
        subprocess.run([sys.executable, "-c", START, file, device, engine], check=True)
        return 1

    engines = [engine for engine in config.engine if device == "cpu" or engine != "openvino"]
    timings = in_turn({engine: partial(work, engine) for engine in engines}, config.rounds)
    return [
        Start(engine, timing.milliseconds[1] / 1e3, min(timing.seconds), max(timing.seconds))
        for engine, timing in timings.items()
    ]


def shown(config: Forward, found: Sequence[Pass | Start]) -> str:
    """A table of the passes and one of the starts."""
    rows = [
        [
            str(p.batch),
            f"{p.form}, {p.precision}",
            f"{p.images_per_s:,.1f}",
            f"{p.slowest:,.1f}-{p.fastest:,.1f}",
            f"{p.of_best:.2f} x",
            f"{p.of_before:.2f} x" if p.of_before else "-",
        ]
        for p in found
        if isinstance(p, Pass)
    ]
    begun = [[s.engine, f"{s.seconds:.2f}", f"{s.fastest:.2f}-{s.slowest:.2f}"] for s in found if isinstance(s, Start)]
    head = ["batch", f"{config.preset}, forward pass", "img/s (median)", "range", "of the best baseline", "of before"]
    versions = ", ".join(f"{name} {version(name)}" for name in ("openvino", "onnxruntime") if find_spec(name))
    start = table(["engine", "s from start to end, imports included (median)", "range"], begun)
    return f"{versions}\n{table(head, rows)}\n\nA process that reads the checkpoint and answers for one image:\n{start}"
