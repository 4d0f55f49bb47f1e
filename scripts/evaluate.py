"""Top-1, top-5 and loss of one or several networks, one view or ten, or the answers of an index; 95 % intervals."""

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
from scripts.indexing.remeasured import remeasured


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure networks on a packed dataset; several are also averaged. Or, with RETRIEVAL, the answers of an index."""

    checkpoint: tuple[Path, ...] = (Path("runs/cifar10/checkpoint.safetensors"),)  # one or more
    data: Path = field(default=Path("data/cifar10"))  # packed dataset
    split: str = "auto"  # auto: what training validates on (validation, val or test)
    views: tuple[int, ...] = (1, 10)  # 1: the central crop; 10: corners, centre and their mirrors (section 4.1)
    device: str = "auto"  # auto (the first GPU, else the CPU), cpu, cuda, cuda:N
    json: bool = False  # print JSON instead of a table
    retrieval: Path | None = None
    """In place of networks, a bundle: measure its answers again, and say whether its manifest's figures hold."""


def job(config: Evaluate) -> None:
    """Measure and print."""
    if config.retrieval is not None:
        print(remeasured(config.retrieval, as_json=config.json))
        return
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
