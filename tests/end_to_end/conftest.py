"""A served collection, and a browser that looks at its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.end_to_end.chromium import chromium
from tests.end_to_end.served import served
from tests.service.bundles import build


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def address(collection: Path) -> Iterator[str]:
    with served("--bundle", str(collection / "bundle")) as server:
        yield server.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; an error of a script or of the policy fails the test."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield page
    page.close()
    assert [error for error in errors if not error.startswith("Failed to load resource: ")] == []
