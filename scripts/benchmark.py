"""Measure one part of the system, in turn with its baselines: the conditions, then a table or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.benchmarks.settings import (
    Embed,
    Features,
    Forward,
    Index,
    Loader,
    Precision,
    Retrieval,
    Search,
    Service,
    Train,
)
from scripts.command import run

Config = Train | Forward | Loader | Embed | Search | Features | Index | Retrieval | Precision | Service


def job(config: Config) -> None:
    """Measure what was named, and print it."""
    from scripts.benchmarks.timing import conditions

    results, table = _measured(config)
    said = conditions(getattr(config, "device", "cpu" if isinstance(config, Index | Service) else "auto"))
    if config.json:
        rows = [asdict(row) for row in results]
        print(json.dumps({"conditions": said, "settings": asdict(config), "rows": rows}, default=str))
    else:
        print(f"{said}\n{table}")


def _measured(config: Config) -> tuple[Sequence[Any], str]:
    """The figures, and the table that shows them. Each benchmark imports only what it measures."""
    match config:
        case Train():
            from scripts.benchmarks import train

            steps = train.measure(config)
            return steps, train.shown(config, steps)
        case Forward():
            from scripts.benchmarks import forward

            passes = forward.measure(config)
            return passes, forward.shown(config, passes)
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
        case Features():
            from scripts.benchmarks import features

            made = features.measure(config)
            return made, features.shown(made)
        case Index():
            from scripts.benchmarks import index

            compared = index.measure(config)
            return compared, index.shown(config, compared)
        case Retrieval():
            from scripts.benchmarks import retrieval

            retrieved = retrieval.measure(config)
            return [retrieved], retrieval.shown(retrieved)
        case Precision():
            from scripts.benchmarks import precision

            embedded = precision.measure(config)
            return embedded, precision.shown(embedded)
        case Service():
            from scripts.benchmarks import service

            rows = service.measure(config)
            return rows, service.shown(config, rows)


if __name__ == "__main__":
    run(Config, job)
