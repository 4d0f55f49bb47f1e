"""Measure the training step or the feed: conditions, then a table with the baseline beside each figure."""

from scripts.benchmarks import feed, train
from scripts.command import run


def measure(config: train.Train | feed.Feed) -> None:
    """Run the benchmark that was named."""
    if isinstance(config, train.Train):
        train.measure(config)
    else:
        feed.measure(config)


if __name__ == "__main__":
    run(train.Train | feed.Feed, measure)
