"""Shared by all tests: what a machine lacks is skipped with a reason; the tests of whole processes are slow ones."""

from pathlib import Path

import pytest
import torch

END_TO_END = Path(__file__).parent / "end_to_end"


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark end_to_end/ as slow; skip `gpu`, or `gpu(n)`, on a machine with fewer than 1 or n GPUs, and say so."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for item in items:
        if END_TO_END in item.path.parents:
            item.add_marker("slow")
        if marker := item.get_closest_marker("gpu"):
            (needed,) = marker.args or (1,)
            if gpus < needed:
                item.add_marker(
                    pytest.mark.skip(reason=f"needs {needed} CUDA GPU(s); this machine has {gpus or 'none'}")
                )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let torch draw the same numbers in a test whatever ran before it."""
    torch.manual_seed(0)
