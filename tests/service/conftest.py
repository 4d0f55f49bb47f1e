"""A service over a small real bundle, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import Engine
from service.loading import load_engine
from service.settings import Settings
from tests.service.bundles import build
from tests.waiting import wait_until


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="session")
def settings(bundle: Path) -> Settings:
    return Settings(bundle=bundle, device="cpu", max_bytes=200_000, max_pixels=1_000_000, decoders=1)


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    with ready(create_app(settings)) as client:
        yield client


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = load_engine(settings)
    yield engine
    engine.close()


@contextmanager
def ready(app: FastAPI) -> Iterator[TestClient]:
    """Give a client of `app` when it is ready."""
    with client_of(app) as client:
        wait_until(lambda: client.get("/readyz").status_code != 503)
        yield client


def client_of(app: FastAPI, **headers: str) -> TestClient:
    """Return a client on this machine, which sends these headers. A failing handler answers 500, as over the network.

    Entered as a context manager it starts the app.
    """
    here = ("127.0.0.1", 50_000)
    return TestClient(app, "http://127.0.0.1", raise_server_exceptions=False, headers=headers, client=here)
