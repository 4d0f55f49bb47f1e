"""An embedding that is posted finds what its image finds; what is no embedding is named."""

import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.bundles import image_file
from tests.service.test_answers import STRANGE, upload
from tests.service.test_many import alike
from tests.service.test_problems import bad_parameter, problem

ROUTE = "/neighbours/vector"
OCTETS = {"Content-Type": "application/octet-stream"}


def test_an_embedding_finds_what_its_image_finds(client: TestClient) -> None:
    expected = alike(client.post("/neighbours?k=4", **upload()).json())
    as_json = client.post("/embed", **upload()).json()
    assert client.post(ROUTE, params={"k": 4}, json={"embedding": as_json["embedding"]}).json() == expected
    as_bytes = client.post("/embed", headers={"Accept": "application/octet-stream"}, **upload()).content
    assert client.post(ROUTE, params={"k": 4}, content=as_bytes, headers=OCTETS).json() == expected


def test_an_embedding_may_be_asked_about_under_a_label_and_need_not_be_an_images(client: TestClient) -> None:
    vector = np.full(4096, -0.5, "<f4").tobytes()
    found = client.post(ROUTE, params={"label": "frog", "k": 20}, content=vector, headers=OCTETS).json()
    assert [one["label"] for one in found["neighbours"]] == ["frog"] * 10
    assert found["exactness"] == "exact"
    assert client.post(ROUTE, params={"k": 101}, content=vector, headers=OCTETS).status_code == 422


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"embedding": [0.5] * 3}, "embedding", "4096 numbers are accepted, not 3"),
        ({"embedding": [0.5] * 4097}, "embedding", "4096 numbers are accepted, not 4097"),
        ({"embedding": [1e39] * 4096}, "embedding", "finite float32 numbers are accepted, not infinite ones or NaN"),
        (
            {"embedding": [0.5, "x", "y"]},
            "embedding.1",
            "Input should be a valid number, unable to parse string as a number",
        ),
        ({"vector": []}, "embedding", "Field required"),
        ([], "body", "Input should be an object"),
    ],
)
def test_json_that_is_no_embedding_is_named(body: Any, field: str, message: str, client: TestClient) -> None:
    answer = client.post(ROUTE, json=body)
    assert (answer.status_code, answer.json()) == (422, bad_parameter(field, message))


def test_the_largest_numbers_that_are_accepted_are_answered(client: TestClient) -> None:
    for vector in (np.full(4096, 1e15, "<f4"), np.tile(np.array([1e15, -1e15], "<f4"), 2048)):
        for how in ("certified", "measured"):
            found = client.post(ROUTE, params={"exactness": how}, content=vector.tobytes(), headers=OCTETS).json()
            assert found["predictions"][0]["probability"] == 1
            assert np.isfinite([one["distance"] for one in found["neighbours"]]).all()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_json_numbers_must_be_finite(number: str, client: TestClient) -> None:
    body = f'{{"embedding": [{", ".join([number] * 4096)}]}}'
    answer = client.post(ROUTE, content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    message = "finite float32 numbers are accepted, not infinite ones or NaN"
    assert answer.json() == bad_parameter("embedding", message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "4096 numbers are accepted, not 0"),
        (bytes(4 * 4096 - 1), "whole float32 numbers of four bytes are accepted, not 16383 bytes"),
        (bytes(8 * 4096), "4096 numbers are accepted, not 8192"),
        (np.full(4096, np.nan, "<f4").tobytes(), "finite float32 numbers are accepted, not infinite ones or NaN"),
        (np.tile(np.array([3e38, -3e38], "<f4"), 2048).tobytes(), "numbers from -1e+15 to 1e+15 are accepted"),
    ],
)
def test_bytes_that_are_no_embedding_are_named(body: bytes, message: str, client: TestClient) -> None:
    answer = client.post(ROUTE, content=body, headers=OCTETS)
    assert (answer.status_code, answer.json()) == (422, bad_parameter("embedding", message))


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data; boundary=x"])
def test_another_media_type_is_refused(kind: str | None, client: TestClient) -> None:
    answer = client.post(ROUTE, content=bytes(16384), headers={"Content-Type": kind} if kind else {})
    detail = "a body of application/json or application/octet-stream is accepted, as the header Content-Type says"
    assert (answer.status_code, answer.json()) == (415, problem(415, "wrong-media-type", "Wrong media type", detail))


def test_a_body_longer_than_any_embedding_is_refused(client: TestClient) -> None:
    body = json.dumps({"embedding": [0.1] * 30_000}).encode()
    assert len(body) > 131_072
    answer = client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    detail = "the request is larger than the limit of 131,072 bytes"
    assert (answer.status_code, answer.json()) == (413, problem(413, "too-many-bytes", "Too many bytes", detail))


def test_an_indexed_images_neighbours_under_a_label_are_the_nearest_of_that_label(client: TestClient) -> None:
    everyone = client.post("/neighbours", data={"image_id": "3", "k": "29"}).json()["neighbours"]
    dogs = [one for one in everyone if one["label"] == "dog"]
    for answer in (
        client.post("/neighbours", data={"image_id": "3", "k": "9", "label": "dog"}).json(),
        client.post("/neighbours?image_id=3&k=100&label=dog&exactness=measured").json(),
    ):
        assert answer["neighbours"] == [{**one, "rank": rank} for rank, one in enumerate(dogs, 1)]
        assert (answer["exactness"], answer["recall"]) == ("exact", None)


def test_a_label_that_no_image_has_is_refused_before_the_image_is_read(client: TestClient) -> None:
    detail = "no image has the label 'x'; accepted: 'cat', 'dog', 'frog'"
    expected = problem(404, "no-such-label", "No such label", detail)
    for files in ({"file": image_file(STRANGE)}, {"file": b"no image"}):
        assert client.post("/neighbours", data={"label": "x"}, files=files).json() == expected
    assert client.post(f"{ROUTE}?label=x", content=b"", headers=OCTETS).json() == expected
