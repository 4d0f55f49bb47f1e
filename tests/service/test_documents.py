"""Every route is documented with examples, and every answer is counted."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.bundles import image_file
from tests.service.conftest import ready

ROUTES = {
    "/classify": "post",
    "/neighbours": "post",
    "/neighbours/vector": "post",
    "/embed": "post",
    "/classify/many": "post",
    "/neighbours/many": "post",
    "/embed/many": "post",
    "/images": "get",
    "/labels": "get",
    "/images/random": "get",
    "/map": "get",
    "/images/{image_id}": "get",
    "/admin/reload": "post",
    "/healthz": "get",
    "/readyz": "get",
    "/version": "get",
    "/metrics": "get",
}
FORMS = ("/classify", "/neighbours", "/embed")


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_route_is_documented(document: dict[str, Any]) -> None:
    assert {path: next(iter(methods)) for path, methods in document["paths"].items()} == ROUTES
    for path, method in ROUTES.items():
        route = document["paths"][path][method]
        assert route["summary"]
        assert route["description"]


@pytest.mark.parametrize("path", [*FORMS, *(f"{path}/many" for path in FORMS)])
def test_an_image_is_sent_as_a_described_field_of_a_multipart_form(path: str, document: dict[str, Any]) -> None:
    (form,) = document["paths"][path]["post"]["requestBody"]["content"].items()
    assert form[0] == "multipart/form-data"
    fields = document["components"]["schemas"][form[1]["schema"]["$ref"].rsplit("/", 1)[1]]["properties"]
    assert "JPEG, PNG" in fields["files" if path.endswith("/many") else "file"]["description"]


@pytest.mark.parametrize("path", ROUTES)
def test_every_answer_has_an_example(path: str, document: dict[str, Any]) -> None:
    for status, answer in document["paths"][path][ROUTES[path]]["responses"].items():
        for kind, content in answer["content"].items():
            if kind in ("image/png", "image/jpeg", "application/octet-stream"):
                continue
            schema = content.get("schema", {})
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            assert content.get("examples") or content.get("example") or schema.get("example"), (path, status, kind)


def test_no_validation_error_of_another_shape_is_promised(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_answers_are_counted_by_route_and_status(settings: Settings) -> None:
    app: FastAPI = create_app(settings)
    with ready(app) as client:
        before = int(
            float(re.findall(r"^fc7_images_decoded_total (.*)", client.get("/metrics").text, re.M)[0])
        )  # canaries
        client.post("/classify", files={"file": image_file(0)})
        client.post("/classify", files={"file": b"no"})
        client.get("/images/3")
        client.get("/images/4")
        client.get("/no/such/page")
        answer = client.get("/metrics")
    lines = answer.text.splitlines()
    for expected in (
        'fc7_requests_total{route="/classify",status="200"} 1.0',
        'fc7_requests_total{route="/classify",status="400"} 1.0',
        'fc7_requests_total{route="/images/{image_id}",status="200"} 2.0',
        'fc7_requests_total{route="none",status="404"} 1.0',
        'fc7_request_seconds_count{route="/classify"} 2.0',
        "fc7_requests_in_flight 1.0",  # the one that asks
        "fc7_requests_admitted 0.0",
        f"fc7_images_decoded_total {before + 1}.0",
        f"fc7_batch_size_count {before + 1}.0",
        "fc7_indexed_images 29.0",
    ):
        assert expected in lines
    assert any(line.startswith("fc7_generation_info{") and 'number="1"' in line for line in lines)
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)
    assert answer.headers["Content-Type"].startswith("text/plain")
