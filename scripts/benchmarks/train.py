"""One training step of the network, compared with plain torch and with the network without its response norms."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.allocator import keep_freed_memory
from model.device import choose_device
from model.distributed.placement import OneProcess
from model.network.alexnet import AlexNet, initialise
from model.network.tables import TABLES, Conv, ResponseNorm, Table
from model.precision import full_float32
from model.train.optimiser import SGD
from model.train.recipes import RECIPES
from model.train.schedule import Rates
from scripts.benchmarks.settings import Train, check_positive
from scripts.benchmarks.timing import Work, in_turn, table

PLAIN, BARE = "plain torch, float32", "no response norm"


@dataclass(frozen=True)
class Step:
    """One form's figures."""

    batch: int  # images a step
    form: str
    images_per_s: float  # in the median step
    fastest_ms: float
    slowest_ms: float
    of_plain: float  # times the rate of plain torch in float32
    of_no_norm: float | None  # times the rate of the same network without its response norms


class Plain(nn.Module):
    """The same network as most people write it: torch's own layers, NCHW, nn.Dropout, F.local_response_norm."""

    def __init__(self, network: AlexNet) -> None:
        super().__init__()
        self.table, self.layers = network.table, nn.ModuleDict(dict(network.named_children()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, crop, crop) -> logits (B, classes), the last hidden layer's outputs (B, width)."""
        scales = self.table.test_scales
        if self.table.input_scale != 1.0:
            x = x * self.table.input_scale
        for name, row in self.table.named.items():
            if isinstance(row, Conv):
                x = self._conv(row, self.layers[name], x)
                continue
            hidden = x.flatten(1)
            x = self.layers[name](hidden if scales[name] == 1.0 else hidden * scales[name])
            if row.units is not None:
                x = F.dropout(F.relu(x), row.dropout, self.training)
        return x, hidden

    def _conv(self, row: Conv, layer: nn.Module, x: Tensor) -> Tensor:
        x = layer(x if isinstance(row.padding, int) else F.pad(x, row.padding))
        for step in row.then:
            if step == "relu":
                x = F.relu(x)
            elif step == "pool":
                x = F.max_pool2d(x, 3, 2)
            elif step == "norm":
                x = torch.cat([torchs_norm(half, self.table.norm) for half in x.chunk(self.table.columns, 1)], 1)
            else:
                x = torchs_map_norm(x, self.table.map_norm)
        return x


def torchs_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """torch divides alpha by the window."""
    return F.local_response_norm(x, norm.size, norm.alpha * norm.size, norm.beta, norm.k)


def torchs_map_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """The norm within each map: torch has a pooling, and no op for the whole."""
    sums = F.avg_pool2d(x.square(), norm.size, stride=1, padding=norm.size // 2) * norm.size**2
    return x / (norm.k + norm.alpha * sums) ** norm.beta


def without_norm(whole: Table) -> Table:
    """The table with its response norms left out: what the rest of the network costs."""
    kept = [
        replace(row, then=tuple(step for step in row.then if step not in ("norm", "map_norm")))
        if isinstance(row, Conv)
        else row
        for row in whole.rows
    ]
    return replace(whole, rows=tuple(kept))


def our_step(of: Table, classes: int, x: Tensor, labels: Tensor, *, bf16: bool) -> Work:
    """A step as scripts/train.py makes it: its network (compiled on a GPU where that can be), masks and update."""
    place = OneProcess(x.device)
    network = place.network(of, classes)
    network.load_state_dict(_weights(of, classes))
    x = x.to(memory_format=torch.channels_last)
    optimiser = SGD(dict(network.named_parameters()), RECIPES[of.name])
    numbers = iter(range(1 << 30))

    def step() -> int:
        masks = place.masks(of, seed=0, step=next(numbers), batch=len(x))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits, _ = network(x, masks)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step(Rates(1e-4, 1e-4))
        return len(x)

    return step


def plain_step(of: Table, classes: int, x: Tensor, labels: Tensor, *, bf16: bool) -> Work:
    """A step as the torch tutorials make it."""
    network = AlexNet(of, classes).to(x.device)
    network.load_state_dict(_weights(of, classes))
    plain = Plain(network)
    optimiser = torch.optim.SGD(plain.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step() -> int:
        optimiser.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits, _ = plain(x)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return len(x)

    return step


def forms(config: Train, batch: int) -> dict[str, Work]:
    """What is compared, each with weights of its own. Raises NoSuchDevice."""
    device, whole = choose_device(config.device), TABLES[config.preset]
    random = torch.Generator().manual_seed(0)
    x = (torch.randn(batch, 3, whole.crop, whole.crop, generator=random) * 60).to(device)
    labels = torch.randint(config.classes, (batch,), generator=random).to(device)
    bare, given = without_norm(whole), (config.classes, x, labels)
    named = {
        PLAIN: plain_step(whole, *given, bf16=False),
        "fc7, float32": our_step(whole, *given, bf16=False),
        "fc7, bfloat16": our_step(whole, *given, bf16=True),
        f"{BARE}, float32": our_step(bare, *given, bf16=False),
        f"{BARE}, bfloat16": our_step(bare, *given, bf16=True),
    }
    if device.type == "cuda":
        named["plain torch, bfloat16"] = plain_step(whole, *given, bf16=True)
    return named


def measure(config: Train) -> list[Step]:
    """Time every form at every batch size. Raises NoSuchDevice, Refused."""
    check_positive(config, "batch", "classes", "rounds")
    if config.allocator:
        keep_freed_memory()
    steps = []
    for batch in config.batch:
        torch.compiler.reset()  # else a second batch size is compiled for any size, and training is for one
        with full_float32():  # as in training; torch's own choice for convolutions on a GPU is TF32
            timings = in_turn(forms(config, batch), config.rounds, device=choose_device(config.device))
        for name, timing in timings.items():
            bare = timings[name.replace("fc7", BARE)].rate if name.startswith("fc7") else None
            fastest, _, slowest = timing.milliseconds
            ratios = timing.rate / timings[PLAIN].rate, timing.rate / bare if bare else None
            steps.append(Step(batch, name, timing.rate, fastest, slowest, *ratios))
    return steps


def shown(config: Train, steps: list[Step]) -> str:
    """A table with one line for each form and batch size."""
    rows = [
        [
            str(s.batch),
            s.form,
            f"{s.images_per_s:.1f}",
            f"{s.fastest_ms:.1f}-{s.slowest_ms:.1f}",
            f"{s.of_plain:.2f} x",
            f"{s.of_no_norm:.0%}" if s.of_no_norm else "-",
        ]
        for s in steps
    ]
    return table(
        ["batch", f"{config.preset}, one training step", "img/s (median)", "ms", "of plain", "of no norm"], rows
    )


def _weights(of: Table, classes: int) -> dict[str, Tensor]:
    return initialise(AlexNet(of, classes), torch.Generator().manual_seed(0)).state_dict()
