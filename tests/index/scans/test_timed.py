"""A search says how much of its time went to exact distances, and how much, so, to the scan."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from index.rows import AllRows
from index.scans import flat, reduced
from tests.index.laid import KINDS, searching

PAUSE = 0.03


def slower(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> None:
    whole: Callable[..., Any] = getattr(owner, method)

    def pausing(*arguments: Any) -> Any:
        time.sleep(PAUSE)
        return whole(*arguments)

    monkeypatch.setattr(owner, method, pausing)


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_distances_and_the_scan_are_told_apart(kind: str, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).standard_normal((200, 64), np.float32)
    with searching(kind, features, np.arange(200)) as index:
        with monkeypatch.context() as during:
            for of in (flat, reduced):
                slower(during, of.Asked, "proposed")
            begun = time.perf_counter()
            found = index.quick(features[:queries], 3)
            assert found.rerank < time.perf_counter() - begun - PAUSE
        with monkeypatch.context() as during:
            slower(during, AllRows, "squared")
            begun = time.perf_counter()
            found = index.quick(features[:queries], 3)
            assert PAUSE < found.rerank < time.perf_counter() - begun
