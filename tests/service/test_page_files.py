"""The pages come with a policy against loading from other hosts, and their files name none."""

import hashlib
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.page import FOLDER

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize(("path", "drawn"), [("/", "blob:"), ("/docs", "data: blob:")])
def test_a_page_comes_with_its_policy(path: str, drawn: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == POLICY.replace("blob:", drawn)
    for linked in re.findall(r'(?:src|href)="((?:static|docs)/[^"]+)"', answer.text):
        assert client.get(f"/{linked}").status_code == 200


@pytest.mark.parametrize(
    "file", [path for path in sorted(FOLDER.iterdir()) if path.is_file()], ids=lambda file: file.name
)
def test_a_file_names_no_other_host(file: Path) -> None:
    text = file.read_text()
    assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org)[a-z0-9.-]+\.[a-z]{2,}", text)
    assert " style=" not in text
    assert "innerHTML" not in text


def test_a_browser_asks_whether_a_file_is_as_it_was(client: TestClient) -> None:
    first = client.get("/static/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/static/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.headers["Cache-Control"]) == (304, "no-cache")


def test_what_is_not_ours_is_what_its_readme_says(client: TestClient) -> None:
    vendor = FOLDER / "vendor"
    said = dict(re.findall(r"`([\w.-]+)` \|.*\| `([0-9a-f]{64})`", (vendor / "README.md").read_text()))
    assert {*said, "README.md"} == {path.name for path in vendor.iterdir()}
    for name, digest in said.items():
        assert hashlib.sha256(client.get(f"/static/vendor/{name}").content).hexdigest() == digest
