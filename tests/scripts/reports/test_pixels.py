"""The nearest by pixels are those of the definition, from block to block, with ties by image id."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model.thumbnails import thumbnail
from scripts.reports import pixels

IDS = np.arange(10, 10 + 23)
IMAGES = np.random.default_rng(0).integers(0, 256, (23, 32, 32, 3), np.uint8)
IMAGES[[4, 9, 20]] = IMAGES[2]  # equal ones, in several blocks


def test_the_nearest_by_pixels_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "BLOCK", 5)
    shown = {int(one): SimpleNamespace(thumbnail=thumbnail(image)) for one, image in zip(IDS, IMAGES, strict=True)}
    generation: Any = SimpleNamespace(ids=IDS, catalogue=SimpleNamespace(image=shown.__getitem__))
    reported: list[tuple[str, int, int]] = []
    queries = np.stack([pixels.pixels_of(thumbnail(IMAGES[2])), pixels.pixels_of(thumbnail(255 - IMAGES[7]))])
    distances, ids = pixels.nearest_by_pixels(generation, queries, 6, lambda *said: reported.append(said))
    for query, far, found in zip(queries.astype(float), distances, ids, strict=True):
        exact = np.sqrt(((IMAGES.reshape(23, -1) - query) ** 2).sum(axis=1))
        order = np.lexsort((IDS, exact))[:6]
        assert found.tolist() == IDS[order].tolist()
        np.testing.assert_array_equal(far, exact[order])
    assert ids[0, :4].tolist() == [12, 14, 19, 30]
    assert reported[-1] == ("compare pixels", 23, 23)
    assert len(reported) == 5
