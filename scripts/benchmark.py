"""Measure the training step, the feed or retrieval: conditions, then a table with the baseline beside each figure."""

from scripts.benchmarks import feed, retrieval, train
from scripts.command import run


def measure(config: train.Train | feed.Feed | retrieval.Retrieval) -> None:
    """Run the benchmark that was named."""
    match config:
        case train.Train():
            train.measure(config)
        case feed.Feed():
            feed.measure(config)
        case retrieval.Retrieval():
            retrieval.measure(config)


if __name__ == "__main__":
    run(train.Train | feed.Feed | retrieval.Retrieval, measure)
