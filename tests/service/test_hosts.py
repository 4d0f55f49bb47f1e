"""A page of somebody else that reaches the service through a browser gets nothing: by name, or by a form."""

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import Settings
from tests.service.doors import door

PAGE = "http://attacker.example"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1", "192.168.1.7:8000", "[::1]", "[fe80::1]:8000", socket.gethostname()],
)
def test_the_machines_own_names_and_addresses_are_accepted(host: str) -> None:
    assert door().get("/version", headers={"Host": host}).text == "inside"


@pytest.mark.parametrize("host", ["attacker.example", "attacker.example:8000", "127.0.0.1.attacker.example", "[a]", ""])
@pytest.mark.parametrize("path", ["/", "/version", "/healthz", "/static/style.css", "/admin/reload"])
def test_dns_rebinding_meets_a_closed_door(host: str, path: str) -> None:
    """The browser believes that the service is attacker.example, and says so."""
    answer = door().get(path, headers={"Host": host})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:fc7:problem:wrong-host")
    assert answer.json()["detail"].startswith(f"the request's Host is {host or 'none'!r}; accepted are localhost, ")


def test_two_hosts_are_none() -> None:
    answer = door().get("/version", headers=[("Host", "localhost"), ("Host", "attacker.example")])
    assert answer.status_code == 421


def test_more_names_are_a_setting() -> None:
    named = door(hosts=("Photos.example", "fc7"))
    statuses = [named.get("/", headers={"Host": host}).status_code for host in ("photos.example:80", "fc7", "fc8")]
    assert statuses == [200, 200, 421]
    assert door(hosts=("*",)).get("/", headers={"Host": "anything"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": PAGE},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},  # another port
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": PAGE},  # a browser over http to an address leaves Sec-Fetch-Site out
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://[::1"},  # no address at all
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/neighbours"), ("POST", "/images"), ("DELETE", "/images/3")])
def test_a_form_of_another_site_is_refused(headers: dict[str, str], method: str, path: str) -> None:
    """A multipart form needs no preflight: a browser sends it, and only hides the answer from the page."""
    answer = door().request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:fc7:problem:cross-site")


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://photos.example"},  # a proxy has changed the Host
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_services_own_page_and_programs_are_answered(headers: dict[str, str]) -> None:
    assert door().post("/neighbours", headers=headers).text == "inside"


def test_a_link_from_another_site_leads_to_the_page() -> None:
    assert door().get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).text == "inside"


def test_other_sites_are_a_setting() -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": PAGE}
    assert door(cors_origins=(PAGE,)).post("/neighbours", headers=headers).text == "inside"
    assert door(cors_origins=("*",)).post("/neighbours", headers=headers).text == "inside"
    assert door(cors_origins=("https://photos.example",)).post("/neighbours", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("hosts", "photos.example:8000"),
        ("hosts", "http://photos.example"),
        ("cors_origins", "photos.example"),
        ("cors_origins", "https://photos.example/"),
        ("cors_origins", "https://Photos.example"),
        ("proxies", "10.0.0.1/8"),
        ("proxies", "caddy"),
    ],
)
def test_a_setting_that_could_never_match_is_refused(setting: str, wrong: str) -> None:
    right = {"hosts": "photos.example", "cors_origins": "http://[::1]:3000", "proxies": "10.0.0.0/8"}[setting]

    def kept(given: tuple[str, ...]) -> Any:
        more: dict[str, Any] = {setting: given}
        return getattr(Settings(**more), setting)

    for accepted in ((right,), ("*",), ()):
        assert kept(accepted) == accepted
    with pytest.raises(ValidationError, match=f"{wrong}' is not a.*; accepted are "):
        kept((right, wrong))
