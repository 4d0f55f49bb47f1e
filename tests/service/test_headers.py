"""Every kind of answer comes with the headers that make a browser careful."""

import pytest
from starlette.testclient import TestClient

from service.engine import Engine

EXPECTED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PATHS = {"/": 200, "/static/style.css": 200, "/images/3": 200, "/version": 200, "/metrics": 200, "/nothing": 404}


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_them(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == PATHS[path]
    assert {name: answer.headers.get(name) for name in EXPECTED} == EXPECTED


def test_refusals_and_failures_have_them_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Engine, "indexed", broken)
    answers = {
        413: client.post("/classify", files={"file": bytes(300_000)}),
        421: client.get("/", headers={"Host": "attacker.example"}),
        500: client.get("/images/3"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert {name: answer.headers.get_list(name) for name in EXPECTED} == {n: [v] for n, v in EXPECTED.items()}
