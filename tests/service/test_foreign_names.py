"""What a caller names is looked up: it is never joined to a path of this machine, and no address is fetched."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.bundles import image_file

NAMES = ["http://attacker.example/a.png", "//attacker.example/a", "file:///etc/passwd", "/etc/passwd", "../../passwd"]


@pytest.fixture
def events() -> Iterator[list[tuple[str, str]]]:
    """What Python is about to do while the test runs: files that it opens, hosts that it looks up, and more."""
    found: list[tuple[str, str]] = []
    listening = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event.startswith(("open", "os.listdir", "os.scandir", "socket.", "subprocess.", "urllib.")):
            found.append((event, repr(arguments)))

    sys.addaudithook(hook)  # it cannot be taken away again
    yield found
    listening = False


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_not_fetched_and_not_opened(name: str, client: TestClient, events: list[tuple[str, str]]) -> None:
    answers = [
        client.post("/classify", files={"file": (name, image_file(0))}),
        client.post("/classify", data={"file": name}),
        client.post("/classify", params={"file": name, "url": name}),
        client.post("/neighbours", data={"image_id": name}),
        client.get(f"/images/{name.replace('/', '%2F')}"),
        client.get("/images", params={"label": name}),
        client.get("/static/style.css"),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 422, 404, 404, 200]
    assert any(event == "open" and "style.css" in said for event, said in events)  # what is opened is seen
    assert not [said for said in events if "attacker" in said[1] or "passwd" in said[1]]
