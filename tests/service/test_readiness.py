"""Each reason against sending requests has its answer at /readyz, its state in the metrics and its row in the docs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import KINDS, UNREADY
from service.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "operating.md"
WELL: dict[str, Any] = {"damaged": None, "failed": False, "asked": True, "decoders": None}
REASONS: list[tuple[dict[str, Any] | None, str]] = [
    (None, "not-ready"),
    ({"asked": False}, "not-ready"),
    ({"damaged": "removed.npy"}, "damaged-index"),
    ({"failed": True}, "canary-failed"),
    ({"decoders": "it cannot be started"}, "no-decoder"),
    ({"damaged": "removed.npy", "failed": True, "asked": False}, "damaged-index"),
    ({"failed": True, "asked": False}, "canary-failed"),
]


def workers(*, damaged: str | None, failed: bool, asked: bool, decoders: str | None) -> SimpleNamespace:
    """Workers in some state, as far as readiness looks at them."""
    served = SimpleNamespace(
        verification=SimpleNamespace(damaged=damaged), canaries=SimpleNamespace(failed=failed, asked=asked)
    )
    return SimpleNamespace(lease=SimpleNamespace(current=served), decoders=SimpleNamespace(problem=decoders))


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(Settings(bundle=tmp_path))


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, "http://localhost", client=("127.0.0.1", 1))  # not entered: nothing is loaded


def states(client: TestClient) -> list[str]:
    """The readiness that the metrics show."""
    lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("fc7_readiness{") and line.endswith(" 1.0")]


@pytest.mark.parametrize(("differs", "name"), REASONS)
def test_each_reason_is_a_problem_and_a_state(
    differs: dict[str, Any] | None, name: str, app: FastAPI, client: TestClient
) -> None:
    app.state.workers = None if differs is None else workers(**(WELL | differs))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, f"urn:fc7:problem:{name}")
    assert states(client) == [f'fc7_readiness{{fc7_readiness="{name}"}} 1.0']
    assert ("Retry-After" in answer.headers) == (name in ("not-ready", "no-decoder"))  # the others last


def test_without_a_reason_it_is_ready(app: FastAPI, client: TestClient) -> None:
    app.state.workers = workers(**WELL)
    assert client.get("/readyz").json() == {"status": "ready"}
    assert states(client) == ['fc7_readiness{fc7_readiness="ready"} 1.0']


def test_every_reason_is_tested_and_explained() -> None:
    names = {KINDS[error].name for error in UNREADY}
    assert {name for _, name in REASONS} == names
    section = DOCS.read_text().split("## Not ready")[1].split("\n## ")[0]
    assert {name for name in names if f"| `{name}` |" in section} == names
