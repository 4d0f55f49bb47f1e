"""Measure the training step, the loader, the batch job, the search or retrieval: conditions, then a table or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.benchmarks.settings import Embed, Loader, Retrieval, Search, Train
from scripts.command import run


def job(config: Train | Loader | Embed | Search | Retrieval) -> None:
    """Measure what was named, and print it."""
    from scripts.benchmarks.timing import conditions

    results, table = _measured(config)
    said = conditions("auto" if isinstance(config, Search) else config.device)
    if config.json:
        rows = [asdict(row) for row in results]
        print(json.dumps({"conditions": said, "settings": asdict(config), "rows": rows}, default=str))
    else:
        print(f"{said}\n{table}")


def _measured(config: Train | Loader | Embed | Search | Retrieval) -> tuple[Sequence[Any], str]:
    """The figures, and the table that shows them. Each benchmark imports only what it measures."""
    match config:
        case Train():
            from scripts.benchmarks import train

            steps = train.measure(config)
            return steps, train.shown(config, steps)
        case Loader():
            from scripts.benchmarks import loader

            readings = loader.measure(config)
            return readings, loader.shown(readings)
        case Embed():
            from scripts.benchmarks import embed

            found = embed.measure(config)
            return found, embed.shown(found)
        case Search():
            from scripts.benchmarks import search

            searched = search.measure(config)
            return searched, search.shown(config, searched)
        case Retrieval():
            from scripts.benchmarks import retrieval

            retrieved = retrieval.measure(config)
            return [retrieved], retrieval.shown(retrieved)


if __name__ == "__main__":
    run(Train | Loader | Embed | Search | Retrieval, job)
