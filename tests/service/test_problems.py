"""Each wrong request gets the problem+json that describes it, without any detail of this machine."""

from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.images import BROKEN, IMAGES, encoded, photograph
from tests.service.bundles import BROKEN as SKIPPED
from tests.service.bundles import image_file
from tests.service.conftest import ready

# Which of the broken images is refused for its size; every other is not an image.
TOO_LARGE = {"decompression bomb", "large decompression bomb"}
ROUTES = ("/classify", "/neighbours", "/embed")


def problem(status: int, name: str, title: str, detail: str, **more: Any) -> dict[str, Any]:
    about = {"type": f"urn:fc7:problem:{name}", "title": title, "status": status, "detail": detail}
    return {**about, "request_id": ANY, **more}  # tests/service/test_observed.py


def bad_parameter(field: str, message: str) -> dict[str, Any]:
    errors = [{"field": field, "message": message}]
    return problem(422, "bad-parameter", "Bad parameter", f"{field}: {message}", errors=errors)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", IMAGES)
def test_awkward_images_are_answered(name: str, route: str, client: TestClient) -> None:
    answer = client.post(route, files={"file": IMAGES[name]()})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_refused(name: str, route: str, client: TestClient) -> None:
    answer = client.post(route, files={"file": ("holiday.jpg", BROKEN[name](), "image/jpeg")})
    body = answer.json()
    if name in TOO_LARGE:
        assert body == problem(413, "too-many-pixels", "Too many pixels", body["detail"])
        assert "1,000,000" in body["detail"]
    else:
        assert body == problem(400, "not-an-image", "Not an image", body["detail"])
    assert answer.status_code == body["status"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["detail"]
    for secret in ("0x", "/", "Traceback", "object at"):
        assert secret not in body["detail"]


def test_an_image_of_more_pixels_than_the_limit_is_refused(client: TestClient) -> None:
    data = encoded(photograph(8, 8).repeat(125, 0).repeat(126, 1))
    answer = client.post("/classify", files={"file": data})
    detail = "1008 x 1000 pixels, more than the limit of 1,000,000"
    assert answer.json() == problem(413, "too-many-pixels", "Too many pixels", detail)


@pytest.mark.parametrize(
    ("route", "field", "value", "message"),
    [
        ("/classify", "top_k", "0", "Input should be greater than or equal to 1"),
        ("/classify", "top_k", "1001", "Input should be less than or equal to 1000"),
        ("/classify", "top_k", "many", "Input should be a valid integer, unable to parse string as an integer"),
        ("/classify", "views", "3", "Input should be 1 or 10"),
        ("/neighbours", "k", "0", "Input should be greater than or equal to 1"),
        ("/neighbours", "k", "101", "Input should be less than or equal to 100"),
        ("/neighbours", "k", "1.5", "Input should be a valid integer, unable to parse string as an integer"),
        ("/neighbours", "image_id", "-1", "Input should be greater than or equal to 0"),
        ("/neighbours", "image_id", str(2**63), "Input should be less than or equal to 9223372036854775807"),
    ],
)
def test_bad_parameters_are_named(route: str, field: str, value: str, message: str, client: TestClient) -> None:
    file = {"file": image_file(0)}
    for answer in (
        client.post(route, files=file, data={field: value}),
        client.post(route, files=file, params={field: value}),
    ):
        assert answer.json() == bad_parameter(field, message)
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")


@pytest.mark.parametrize("route", ["/classify", "/embed"])
def test_a_missing_image_is_named(route: str, client: TestClient) -> None:
    assert client.post(route).json() == bad_parameter("file", "Field required")
    assert client.post(route, json={"file": "x"}).json() == bad_parameter("file", "Field required")
    as_text = client.post(route, data={"file": "x"}).json()
    assert as_text == bad_parameter("file", "an image file is accepted, not text")


def test_neighbours_needs_exactly_one_of_file_and_image_id(client: TestClient) -> None:
    detail = "send either an image as `file` or the `image_id` of an indexed image, not both or neither"
    expected = problem(422, "bad-parameter", "Bad parameter", detail)
    both = client.post("/neighbours", files={"file": image_file(0)}, data={"image_id": "0"})
    assert [both.json(), client.post("/neighbours").json()] == [expected, expected]
    assert both.status_code == 422


@pytest.mark.parametrize("image_id", [SKIPPED, 30, 2**63 - 1])
def test_an_image_that_is_not_indexed_is_not_found(image_id: int, client: TestClient) -> None:
    expected = problem(404, "no-such-image", "No such image", f"no image {image_id} in this collection")
    for answer in (client.get(f"/images/{image_id}"), client.post("/neighbours", data={"image_id": str(image_id)})):
        assert (answer.status_code, answer.json()) == (404, expected)


@pytest.mark.parametrize("image_id", ["-1", "frog", str(2**63)])
def test_an_image_id_must_be_a_number(image_id: str, client: TestClient) -> None:
    body = client.get(f"/images/{image_id}").json()
    assert (body["type"], body["errors"][0]["field"]) == ("urn:fc7:problem:bad-parameter", "image_id")


def test_unknown_routes_and_methods_are_problems_too(client: TestClient) -> None:
    unknown = problem(404, "no-such-page", "No such page", "Not Found")
    assert [client.get(path).json() for path in ("/nothing", "/static/nothing.js")] == [unknown, unknown]
    wrong = client.get("/classify")
    assert wrong.json() == problem(405, "method-not-allowed", "Method not allowed", "Method Not Allowed")
    assert wrong.headers["Allow"] == "POST"


def test_a_malformed_form_is_a_problem(client: TestClient) -> None:
    answer = client.post("/classify", content=b"--a", headers={"Content-Type": "multipart/form-data"})
    expected = problem(400, "malformed-request", "Malformed request", "Missing boundary in multipart.")
    assert (answer.status_code, answer.json()) == (400, expected)


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ([("file", ("x", image_file(0))), ("file", ("y", b""))], "Too many files. Maximum number of files is 1."),
        ([("top_k", (None, "1"))] * 17, "Too many fields. Maximum number of fields is 16."),
        ([("top_k", (None, "1" * 4097))], "Part exceeded maximum size of 4KB."),
        ([("file", ("x" * 5000, image_file(0)))], "Invalid multipart data."),
    ],
    ids=["files", "fields", "long field", "long head of a part"],
)
def test_a_form_has_one_file_and_few_short_fields(parts: list[Any], detail: str, client: TestClient) -> None:
    answer = client.post("/classify", files=parts)
    assert answer.json() == problem(400, "malformed-request", "Malformed request", detail)


def test_a_body_of_too_many_bytes_is_refused_before_and_while_it_is_read(
    client: TestClient, settings: Settings
) -> None:
    detail = "the request is larger than the limit of 200,000 bytes"
    expected = problem(413, "too-many-bytes", "Too many bytes", detail)
    declared = client.post("/classify", files={"file": bytes(settings.max_bytes)})
    assert (declared.status_code, declared.json()) == (413, expected)
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    chunks = iter([head] + [bytes(1000)] * 10_000)
    chunked = client.post("/classify", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=a"})
    assert (chunked.status_code, chunked.json()) == (413, expected)


def test_the_most_neighbours_in_one_answer_are_a_setting(settings: Settings) -> None:
    with ready(create_app(replace(settings, max_k=7))) as client:
        assert len(client.post("/neighbours?image_id=0&k=7").json()["neighbours"]) == 7
        expected = bad_parameter("k", "Input should be less than or equal to 7")
        assert client.post("/neighbours?image_id=0&k=8").json() == expected
        assert len(client.post("/classify?top_k=8", files={"file": image_file(0)}).json()["predictions"]) == 3
