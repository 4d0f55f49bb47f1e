"""A build of the index keeps canaries that give the features which are indexed."""

from pathlib import Path

import numpy as np

from index import Bundle, canaries_of
from model import Embedder
from tests.service.bundles import network


def test_each_canary_gives_its_row_again(bundle: Path) -> None:
    generation, embedder = Bundle(bundle).current(), Embedder(network(), "cpu")
    canaries = canaries_of(generation)
    assert len(canaries) == 16
    for canary in canaries:
        features = embedder(embedder.prepare(canary.data)[None])[1][0]
        np.testing.assert_allclose(features, canary.features, rtol=1e-4, atol=1e-5 * np.abs(features).max())
    generation.close()
