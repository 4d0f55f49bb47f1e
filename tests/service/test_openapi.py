"""Requests drawn from the service's own OpenAPI document, good and bad: every answer is one that it documents."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks

from service.app import create_app
from service.settings import Settings
from tests.end_to_end.served import served
from tests.service.bundles import build, image_file

EXAMPLES = 20  # requests for each operation, beside those that hold its limits
load_all_checks()
CHECKED: list[Any] = CHECKS.get_by_names(
    [
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bundle = build(tmp_path_factory.mktemp("collection"))
    with served("--bundle", str(bundle)) as server:
        yield server.address


schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_every_answer_is_documented(case: Case[Any], address: str) -> None:
    body: Any = case.body
    if case.meta is not None and case.meta.generation.mode.is_positive and isinstance(body, dict) and "file" in body:
        body["file"] = image_file(0)  # the drawn bytes are no image
    answer = case.call(base_url=address, timeout=60)
    assert answer.status_code < 500 or answer.status_code == 503, answer.text
    case.validate_response(answer, checks=CHECKED)
