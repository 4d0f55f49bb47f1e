"""A served collection, and a browser that looks at its page."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.end_to_end.chromium import chromium
from tests.end_to_end.served import served
from tests.service.bundles import build

HOSTILE = {
    5: "0005 <img src=x onerror=alert(1)>.png",
    6: "0006 \u202egnp.exe.png",  # what follows U+202E is shown from right to left
    7: "0007 a\nb.png",
    8: f"0008 {'long' * 60}.png",
}


@pytest.fixture(scope="package")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    build(folder, kind="pca")
    return folder


@pytest.fixture(scope="package")
def address(collection: Path) -> Iterator[str]:
    with served("--bundle", str(collection / "bundle")) as server:
        yield server.address


@pytest.fixture(scope="package")
def without_labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service whose images lie in no class folder."""
    bundle = build(tmp_path_factory.mktemp("flat"), lambda image_id: HOSTILE.get(image_id, f"{image_id:04}.png"))
    with served("--bundle", str(bundle)) as server:
        yield server.address


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def foreign(address: str) -> bool:
    return re.match(r"(http://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1:|data:)", address) is None


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; an error of a script or of the policy fails the test, and so does a request to another host."""
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    errors: list[str] = []
    page.on("request", lambda request: errors.append(request.url) if foreign(request.url) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    yield page
    page.close()
    assert [error for error in errors if not error.startswith("Failed to load resource: ")] == []
