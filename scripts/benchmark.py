"""Measure the training step, the loader, the search or retrieval: conditions, then a table or JSON."""

import json
from dataclasses import asdict
from typing import Any

from scripts.benchmarks import loader, retrieval, search, train
from scripts.benchmarks.timing import conditions
from scripts.command import run


def job(config: train.Train | loader.Loader | search.Search | retrieval.Retrieval) -> None:
    """Measure what was named, and print it."""
    results: list[Any]
    match config:
        case train.Train():
            results = train.measure(config)
            table = train.shown(config, results)
        case loader.Loader():
            results = loader.measure(config)
            table = loader.shown(results)
        case search.Search():
            results = search.measure(config)
            table = search.shown(config, results)
        case retrieval.Retrieval():
            results = [retrieval.measure(config)]
            table = retrieval.shown(results[0])
    if config.json:
        rows = [asdict(row) for row in results]
        print(json.dumps({"conditions": conditions(), "settings": asdict(config), "rows": rows}, default=str))
    else:
        print(f"{conditions()}\n{table}")


if __name__ == "__main__":
    run(train.Train | loader.Loader | search.Search | retrieval.Retrieval, job)
