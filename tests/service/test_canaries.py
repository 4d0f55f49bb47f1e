"""The canaries show when the network or the decoding no longer gives what was indexed."""

import asyncio
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from numpy.typing import NDArray

from index import Bundle, open_search
from model import Checkpoint, Embedder, TooManyPixels
from model.preprocess import Recipe
from service.app import create_app
from service.canaries import LOST, Canaries
from service.decoder_process import DecoderEnded
from service.engine import Engine, Inference
from service.errors import Busy, TooCostly
from service.settings import Settings
from tests.service.bundles import network
from tests.service.conftest import client_of, ready
from tests.service.test_problems import problem
from tests.waiting import wait_until

FAILED = problem(
    503,
    "canary-failed",
    "Canary failed",
    "images of the index no longer give the features that are indexed: the network or the decoding has changed; "
    "restart, and if that does not help, build the index again",
)


class Asked:
    """Decodes and infers in this thread, after `before`."""

    def __init__(self, before: Exception | None = None) -> None:
        self.before = before

    async def decode(self, engine: Engine, upload: bytes) -> NDArray[np.uint8]:
        if self.before:
            raise self.before
        return engine.prepare(upload)

    async def infer(self, engine: Engine, image: NDArray[np.uint8]) -> Inference:
        return engine.infer(image)


def disturbed(by: float) -> Checkpoint:
    """The network with one weight of its first layer changed."""
    found = network()
    weights = {name: array.copy() for name, array in found.weights.items()}
    weights["conv1.weight"].flat[0] += by
    return replace(found, weights=weights)


def other_network(settings: Settings, checkpoint: Checkpoint) -> Engine:
    generation = Bundle(settings.bundle).current()
    embedder = Embedder(checkpoint, "cpu")
    return Engine(embedder, generation, open_search(generation), max_pixels=settings.max_pixels)


def asked(engine: Engine, before: Exception | None = None) -> Canaries:
    canaries = Canaries(engine)
    asyncio.run(canaries.ask_all(Asked(before)))
    return canaries


def test_the_network_that_made_the_index_differs_by_rounding(engine: Engine) -> None:
    canaries = asked(engine)
    assert canaries.worst is not None
    assert canaries.worst < 1e-5
    assert not canaries.failed


def test_one_weight_that_changed_is_seen(settings: Settings) -> None:
    engine = other_network(settings, disturbed(0.5))
    canaries = asked(engine)
    assert canaries.failed
    engine.close()


def test_the_difference_is_relative_to_the_largest_indexed_number(engine: Engine) -> None:
    first = engine.canaries[0]
    changed, added = first.features.copy(), 0.25 * np.abs(first.features).max()
    changed[0] += added
    engine.canaries = [replace(first, features=changed)]
    assert asked(engine).worst == pytest.approx(added / np.abs(changed).max(), rel=1e-3)


def test_one_that_cannot_be_decoded_fails_and_recovers(engine: Engine) -> None:
    canaries = asked(engine, ValueError("a decoder that died"))
    assert canaries.failed
    assert canaries.worst == LOST
    asyncio.run(canaries.ask_all(Asked()))
    assert not canaries.failed


@pytest.mark.parametrize(
    "error",
    [
        Busy("full"),
        TooManyPixels("more than this service takes"),
        TooCostly("longer than the limit"),
        DecoderEnded("it was killed"),
    ],
)
def test_of_one_that_was_not_asked_nothing_is_learned(engine: Engine, error: Exception) -> None:
    canaries = asked(engine, error)
    assert canaries.worst is None
    assert not canaries.failed


def test_a_network_that_did_not_make_the_index_is_never_ready(settings: Settings) -> None:
    app = create_app(settings, lambda settings: other_network(settings, disturbed(0.5)))
    with client_of(app) as client:
        wait_until(lambda: client.get("/readyz").json().get("type") == "urn:fc7:problem:canary-failed")
        found = client.get("/readyz")
        assert {**found.json(), "request_id": None} == {**FAILED, "request_id": None}
        assert "Retry-After" not in found.headers
        told = client.get("/version").json()["generation"]["canaries"]
        assert (told["images"], told["failed"]) == (16, True)


def test_a_weight_that_changes_in_memory_ends_readiness_until_it_is_right_again(settings: Settings) -> None:
    app = create_app(replace(settings, canary_seconds=0.2))
    with ready(app) as client:
        assert "fc7_canary_difference " in client.get("/metrics").text
        engine = app.state.workers.lease.current.engine
        good, engine.embedder = engine.embedder, Embedder(disturbed(0.5), "cpu")
        wait_until(lambda: client.get("/readyz").status_code == 503)
        told = client.get("/version").json()["generation"]["canaries"]
        assert told["difference"] > told["tolerance"] == 1e-3
        engine.embedder = good
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_bfloat16_may_differ_by_more(settings: Settings) -> None:
    found = network()
    rounded = replace(found, recipe=Recipe(found.recipe.stored, found.recipe.crop, precision="bfloat16"))
    engine = other_network(settings, rounded)
    assert Canaries(engine).tolerance == 3e-2
    engine.close()


def test_a_bundle_without_canaries_is_served(settings: Settings, tmp_path: Path) -> None:
    bundle = copytree(settings.bundle, tmp_path / "bundle")
    Bundle(bundle).remove([c.image_id for c in other_network(settings, network()).canaries]).close()
    with ready(create_app(replace(settings, bundle=bundle))) as client:
        assert client.get("/readyz").status_code == 200
        assert "fc7_canary_difference" not in client.get("/metrics").text
        told = client.get("/version").json()["generation"]["canaries"]
        assert told == {"images": 0, "difference": None, "tolerance": 1e-3, "failed": False}
