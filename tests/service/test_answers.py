"""Each route's answers: whole bodies, compared with the results of the network and the index."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from index import Layout, exact
from index.store import Bundle
from model.forward.torch_engine import network_of
from model.preprocess import network_input, stored_image
from model.thumbnails import thumbnail
from service.engine import Engine
from service.settings import Settings
from tests.service.bundles import BROKEN, CLASSES, EACH, image_file, network
from tests.waiting import wait_until

INDEXED = [image_id for image_id in range(EACH * len(CLASSES)) if image_id != BROKEN]
STRANGE = 1000  # seed of an image that is not indexed


def upload(image_id: int = STRANGE) -> dict[str, Any]:
    return {"files": {"file": ("image.png", image_file(image_id), "image/png")}}


def near(probability: np.float32) -> Any:
    """To a rounding more or less: one image and several are multiplied in different orders."""
    return pytest.approx(float(probability), rel=1e-5)


def version(image_id: int) -> str:
    """The start of the SHA-256 of an image's thumbnail, which its address ends with."""
    return hashlib.sha256(thumbnail(stored_image(image_file(image_id), 32))).hexdigest()[:12]


def predictions(engine: Engine, probabilities: np.ndarray[Any, Any], top_k: int = 5) -> list[dict[str, Any]]:
    best = sorted(range(len(CLASSES)), key=lambda row: -probabilities[row])[:top_k]
    return [{"label": engine.classes[row], "class_id": row, "probability": near(probabilities[row])} for row in best]


def indexed(engine: Engine, image_id: int) -> dict[str, Any]:
    label = CLASSES[image_id // EACH]
    inference = engine.infer(engine.prepare(image_file(image_id)))  # through the whole network
    return {
        "image_id": image_id,
        "name": f"{label}/{image_id:04}.png",
        "names": [f"{label}/{image_id:04}.png"],
        "names_count": 1,
        "label": label,
        "predicted": predictions(engine, inference.probabilities, 1)[0],
        "thumbnail": f"/images/{image_id}?v={version(image_id)}",
    }


def neighbours(engine: Engine, bundle: Bundle, features: np.ndarray[Any, Any], k: int) -> list[dict[str, Any]]:
    generation = bundle.current()
    distances, ids = exact.nearest(generation.all_rows(), generation.ids, features[None], k)
    generation.close()
    return [
        {
            **indexed(engine, int(image_id)),
            "rank": rank,
            "distance": pytest.approx(float(distance), rel=1e-5, abs=1e-3),
        }
        for rank, (distance, image_id) in enumerate(zip(distances[0], ids[0], strict=True), 1)
    ]


def test_classify_gives_the_most_probable_classes_first(client: TestClient, engine: Engine) -> None:
    inference = engine.infer(engine.prepare(image_file(STRANGE)))
    expected = {"predictions": predictions(engine, inference.probabilities), "model": engine.model}
    assert client.post("/classify", **upload()).json() == expected
    assert len(engine.model) == 12
    assert network().fingerprints()["weights"].startswith(engine.model)


def test_classify_takes_the_mean_over_ten_views(client: TestClient, engine: Engine) -> None:
    probabilities = engine.ten_views(engine.prepare(image_file(STRANGE)))
    expected = {"predictions": predictions(engine, probabilities, 2), "model": engine.model}
    assert client.post("/classify", data={"views": "10", "top_k": "2"}, **upload()).json() == expected


def test_parameters_may_come_in_the_query_string(client: TestClient) -> None:
    form = client.post("/classify", data={"views": "10", "top_k": "1"}, **upload()).json()
    assert client.post("/classify?views=10&top_k=1", **upload()).json() == form
    indexed = client.post("/neighbours", data={"image_id": "3", "k": "2"}).json()
    assert client.post("/neighbours?image_id=3&k=2").json() == indexed


def test_an_uploaded_image_finds_the_nearest_indexed_ones(
    client: TestClient, engine: Engine, settings: Settings
) -> None:
    inference = engine.infer(engine.prepare(image_file(STRANGE)))
    assert client.post("/neighbours", **upload()).json() == {
        "predictions": predictions(engine, inference.probabilities),
        "neighbours": neighbours(engine, Bundle(settings.bundle), inference.features, 6),
        "name": None,
        "true_label": None,
        "exactness": "certified",
        "recall": None,
        "generation": 1,
        "model": engine.model,
    }


@pytest.mark.parametrize("image_id", [0, BROKEN + 1, INDEXED[-1]])
def test_an_indexed_image_finds_itself_first(
    image_id: int, client: TestClient, engine: Engine, settings: Settings
) -> None:
    (inference,) = engine.infer_all([image_id])
    answer = client.post("/neighbours", data={"image_id": str(image_id), "k": "4"}).json()
    assert answer == {
        "predictions": predictions(engine, inference.probabilities),
        "neighbours": neighbours(engine, Bundle(settings.bundle), inference.features, 4),
        "name": f"{CLASSES[image_id // EACH]}/{image_id:04}.png",
        "true_label": CLASSES[image_id // EACH],
        "exactness": "certified",
        "recall": None,
        "generation": 1,
        "model": engine.model,
    }
    assert (answer["neighbours"][0]["image_id"], answer["neighbours"][0]["distance"]) == (image_id, 0)


def test_every_indexed_image_finds_what_brute_force_finds(client: TestClient, settings: Settings) -> None:
    generation = Bundle(settings.bundle).current()
    _, expected = exact.nearest(generation.all_rows(), generation.ids, generation.all_rows(), 6)
    for image_id, ids in zip(generation.ids, expected, strict=True):
        found = client.post("/neighbours", data={"image_id": str(image_id)}).json()["neighbours"]
        assert [one["image_id"] for one in found] == ids.tolist()
    generation.close()


def test_more_neighbours_than_images_gives_all_of_them(client: TestClient) -> None:
    found = client.post("/neighbours", data={"image_id": "0", "k": "100"}).json()["neighbours"]
    assert sorted(one["image_id"] for one in found) == INDEXED


def test_the_three_ways_to_embed_an_image_agree(client: TestClient, settings: Settings) -> None:
    """HTTP, the batch job's stored row and the trainer's forward pass agree to 1e-5 of the largest feature."""
    checkpoint = network()
    stored = stored_image(image_file(7), checkpoint.recipe.stored)
    over_http = np.array(client.post("/embed", **upload(7)).json()["embedding"], np.float32)
    generation = Bundle(settings.bundle).current()
    in_batch = generation.all_rows()[list(generation.ids).index(7)]
    x = network_input(torch.from_numpy(stored[None]), torch.from_numpy(checkpoint.mean_image), checkpoint.recipe.crop)
    in_training = network_of(checkpoint)(x)[1].detach().numpy()[0]
    for other in (in_batch, in_training):
        np.testing.assert_allclose(over_http, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())
    generation.close()


def test_embed_gives_numbers_as_json_or_as_bytes(client: TestClient, engine: Engine) -> None:
    features = engine.infer(engine.prepare(image_file(STRANGE))).features
    as_json = client.post("/embed", **upload())
    assert as_json.json() == {"embedding": features.tolist(), "model": engine.model}
    as_bytes = client.post("/embed", headers={"Accept": "application/octet-stream"}, **upload())
    assert as_bytes.headers["Content-Type"] == "application/octet-stream"
    assert as_bytes.headers["X-Fc7-Model"] == engine.model
    assert len(as_bytes.content) == 4 * 4096
    np.testing.assert_array_equal(np.frombuffer(as_bytes.content, "<f4"), features)


def test_a_thumbnail_is_cached_for_ever_under_the_address_that_answers_give(client: TestClient) -> None:
    address = client.post("/neighbours", data={"image_id": "3"}).json()["neighbours"][0]["thumbnail"]
    answer = client.get(address)
    assert answer.content == thumbnail(stored_image(image_file(3), 32))
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for other in ("/images/3", f"/images/3?v={version(4)}"):  # another bundle may have another image there
        assert client.get(other).headers["Cache-Control"] == "no-cache"
    again = client.get("/images/3", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert client.get("/images/3", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_random_image_is_one_of_the_collection(client: TestClient, engine: Engine) -> None:
    seen = set()
    for _ in range(100):
        answer = client.get("/images/random")
        image_id = answer.json()["image_id"]
        seen.add(image_id)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == indexed(engine, image_id)
    assert seen <= set(INDEXED)
    assert len(seen) > 15  # of 29: fewer by chance in less than one run of 10^9


def test_version_names_every_part(client: TestClient, engine: Engine) -> None:
    manifest = engine.manifest
    wait_until(lambda: client.get("/version").json()["generation"]["verification"] == "done")
    told = client.get("/version").json()
    canaries = told["generation"].pop("canaries")
    assert 0 <= canaries.pop("difference") < 1e-5
    assert canaries == {"images": 16, "tolerance": 1e-3, "failed": False}
    assert told == {
        "version": installed("fc7"),
        "model": {
            "table": "tiny",
            **network().fingerprints(),
            "precision": "float32",
            "device": "cpu",
            "engine": "openvino",
            "classes": list(CLASSES),
        },
        "generation": {
            "number": 1,
            "created": manifest.created,
            "images": len(INDEXED),
            "width": 4096,
            "device": "cpu",
            "engine": "openvino",
            "segments": 1,
            "removed": 0,
            "layout": asdict(Layout()),
            "recall": {},
            "verification": "done",
            "fingerprints": {**manifest.inputs, **{name: part.sha256 for name, part in manifest.parts.items()}},
        },
        "refused": None,
    }


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
