"""Top-1, top-5 and loss of one or several networks, one view or ten, each with its 95 % interval."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from model import checkpoint
from model.data.packed import PackedSet
from model.data.splits import named_split
from model.embed import Embedder
from model.evaluation import as_json, check_fit, evaluate, table
from model.progress import counting
from scripts.command import Refused, run


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure networks on a packed dataset; several are also averaged."""

    checkpoint: tuple[Path, ...] = (Path("runs/cifar10/checkpoint.safetensors"),)  # one or more
    data: Path = field(default=Path("data/cifar10"))  # packed dataset
    split: str = "auto"  # auto: what training validates on (validation, val or test)
    views: tuple[int, ...] = (1, 10)  # 1: the central crop; 10: corners, centre and their mirrors (section 4.1)
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table


def job(config: Evaluate) -> None:
    """Measure and print."""
    if not set(config.views) <= {1, 10} or not config.views:
        raise Refused(f"--views {' '.join(map(str, config.views))}: 1 and 10 are accepted")
    if not config.checkpoint:
        raise Refused("--checkpoint names no file")
    packed = PackedSet.open(config.data)
    split = named_split(packed, config.split)
    checkpoints = {str(path): checkpoint.load(path) for path in config.checkpoint}
    check_fit(checkpoints, packed)
    networks = {name: Embedder(one, config.device) for name, one in checkpoints.items()}
    results = evaluate(networks, split, config.views, report=counting("images"))
    print(json.dumps(as_json(results), indent=1) if config.json else table(results))


if __name__ == "__main__":
    run(Evaluate, job)
