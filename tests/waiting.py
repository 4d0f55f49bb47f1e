"""Waiting for something that another thread or process does, with an end."""

import time
from collections.abc import Callable

import pytest

SECONDS = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail the test after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {SECONDS:g} s in vain")
        time.sleep(0.01)
