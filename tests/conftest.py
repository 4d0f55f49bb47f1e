"""Shared by all tests: what a machine lacks is skipped with a reason, never silently."""

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu`, or `gpu(n)`, on a machine with fewer than 1 or n GPUs, and say so."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for item in items:
        if marker := item.get_closest_marker("gpu"):
            (needed,) = marker.args or (1,)
            if gpus < needed:
                item.add_marker(
                    pytest.mark.skip(reason=f"needs {needed} CUDA GPU(s); this machine has {gpus or 'none'}")
                )
