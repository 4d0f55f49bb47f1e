"""Measure the training step, the loader or retrieval: conditions, then a table with the baseline beside each figure."""

from scripts.benchmarks import loader, retrieval, train
from scripts.command import run


def measure(config: train.Train | loader.Loader | retrieval.Retrieval) -> None:
    """Run the benchmark that was named."""
    match config:
        case train.Train():
            train.measure(config)
        case loader.Loader():
            loader.measure(config)
        case retrieval.Retrieval():
            retrieval.measure(config)


if __name__ == "__main__":
    run(train.Train | loader.Loader | retrieval.Retrieval, measure)
