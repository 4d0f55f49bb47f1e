"""One training step of the network: ours against the plain torch form, and against no response norm at all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.allocator import keep_freed_memory
from model.network.alexnet import TABLES, AlexNet, Conv, Dense, Table, even, initialise
from model.network.dropout import dropout_masks
from model.network.response_norm import ResponseNorm
from model.train.optimiser import SGD
from model.train.recipes import RECIPES
from model.train.schedule import Rates
from scripts.benchmarks.timing import conditions, in_turn, table


@dataclass(frozen=True, kw_only=True)
class Train:
    """Time one training step (forward, backward, update) of a whole network, in turn with its baselines."""

    preset: str = "paper"  # paper, release or cifar
    batch: tuple[int, ...] = (128,)  # images a step; several: how the cost grows
    classes: int = 1000
    rounds: int = 5  # timed steps of each form, after one that is not
    allocator: bool = True  # keep freed memory, as scripts/train.py does; for all forms alike


class Plain(nn.Module):
    """The same network as most people write it: torch's own layers, NCHW, nn.Dropout, F.local_response_norm."""

    def __init__(self, network: AlexNet) -> None:
        super().__init__()
        self.table, self.layers = network.table, nn.ModuleDict(dict(network.named_children()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, crop, crop) -> logits (B, classes)."""
        x = x * self.table.input_scale
        for name, row in self.table.named.items():
            x = self._conv(row, self.layers[name], x) if isinstance(row, Conv) else self._dense(row, name, x)
        return x

    def _conv(self, row: Conv, layer: nn.Module, x: Tensor) -> Tensor:
        x = layer(x if even(row.padding) else F.pad(x, row.padding))
        for step in row.then.split():
            if step == "relu":
                x = F.relu(x)
            elif step == "pool":
                x = F.max_pool2d(x, 3, 2)
            elif step == "norm":
                x = torch.cat([torchs_norm(half, self.table.norm) for half in x.chunk(self.table.columns, 1)], 1)
            else:
                raise ValueError(f"the plain form has no {step!r}")
        return x

    def _dense(self, row: Dense, name: str, x: Tensor) -> Tensor:
        x = self.layers[name](x.flatten(1))
        if row.units is None:
            return x
        x = F.dropout(F.relu(x), row.dropout, self.training)
        return x * (1 - row.dropout) if row.scaling == "test" else x


def torchs_norm(x: Tensor, norm: ResponseNorm) -> Tensor:
    """torch divides alpha by the window."""
    return F.local_response_norm(x, norm.size, norm.alpha * norm.size, norm.beta, norm.k)


def without_norm(whole: Table) -> Table:
    """The table with its response norms left out: what the rest of the network costs."""
    kept = [
        replace(row, then=" ".join(step for step in row.then.split() if not step.endswith("norm")))
        if isinstance(row, Conv)
        else row
        for row in whole.rows
    ]
    return replace(whole, rows=tuple(kept))


def our_step(network: AlexNet, x: Tensor, labels: Tensor, bf16: bool) -> Callable[[], None]:
    """A step as training.py makes it: masks, autocast, the paper's update."""
    network = network.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    optimiser = SGD(dict(network.named_parameters()), RECIPES[network.table.name])
    steps = iter(range(1 << 30))
    batch, columns = len(x), range(network.table.columns)

    def step() -> None:
        masks = dropout_masks(
            network.table, seed=0, step=next(steps), batch=batch, rows=slice(None), columns=columns, device=x.device
        )
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits, _ = network(x, masks)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step(Rates(1e-4, 1e-4))

    return step


def plain_step(network: AlexNet, x: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step as the torch tutorials make it."""
    plain = Plain(network)
    optimiser = torch.optim.SGD(plain.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(plain(x), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def forms(config: Train, batch: int) -> Mapping[str, Callable[[], None]]:
    """What is compared, each with its own weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whole = TABLES[config.preset]
    random = torch.Generator().manual_seed(0)
    x = (torch.randn(batch, 3, whole.crop, whole.crop, generator=random) * 60).to(device)
    labels = torch.randint(config.classes, (batch,), generator=random).to(device)

    def fresh(of: Table) -> AlexNet:
        return initialise(AlexNet(of, config.classes), torch.Generator().manual_seed(0)).to(device)

    bare = without_norm(whole)
    return {
        "plain torch, float32": plain_step(fresh(whole), x, labels),
        "fc7, float32": our_step(fresh(whole), x, labels, bf16=False),
        "fc7, bfloat16": our_step(fresh(whole), x, labels, bf16=True),
        "no response norm, float32": our_step(fresh(bare), x, labels, bf16=False),
        "no response norm, bfloat16": our_step(fresh(bare), x, labels, bf16=True),
    }


def measure(config: Train) -> None:
    """Print a table of every form at every batch size."""
    kept = config.allocator and keep_freed_memory()
    print(f"{conditions()}; freed memory is {'kept' if kept else 'given back to the system'}")
    rows = []
    for batch in config.batch:
        timings = in_turn(forms(config, batch), config.rounds)
        base = timings["plain torch, float32"].median
        for name, timing in timings.items():
            bare = timings[name.replace("fc7", "no response norm")].median if name.startswith("fc7") else None
            ratios = [f"{base / timing.median:.2f} x", f"{bare / timing.median:.0%}" if bare else "-"]
            rows.append([str(batch), name, f"{batch / timing.median:.1f}", timing.spread, *ratios])
    head = ["batch", f"{config.preset}, one training step", "img/s (median)", "ms", "of plain", "of no norm"]
    print(table(head, rows))
