"""A caller who asks too often waits, and nobody else does; the counts take bounded memory."""

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.rates import CALLERS, Rate, TooManyRequests, network_of
from service.settings import Settings
from tests.service.doors import door


def test_too_many_requests_are_a_problem_that_says_when(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.25
    monkeypatch.setattr("time.time", lambda: now)
    client = door(rate="2/minute")
    assert [client.get("/version").status_code for _ in range(2)] == [200, 200]
    now += 45
    answer = client.post("/classify")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "15")
    assert answer.json() == {
        "type": "urn:fc7:problem:too-many-requests",
        "title": "Too many requests",
        "status": 429,
        "detail": "more than 2 per 1 minute from one key or address; try again in 15 s",
    }
    now += 15
    assert client.get("/version").status_code == 200


def test_several_rates_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    rate = Rate("5/second;2/minute")
    for _ in range(2):
        rate.count("a")
    with pytest.raises(TooManyRequests, match="more than 2 per 1 minute"):
        rate.count("a")


def test_the_page_its_thumbnails_and_the_probes_are_not_counted() -> None:
    client = door(rate="1/minute")
    for path in ("/", "/static/style.css", "/images/3", "/healthz", "/readyz", "/metrics"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3
    assert [client.get(path).status_code for path in ("/images/random", "/images")] == [200, 429]


def test_addresses_have_counts_of_their_own() -> None:
    rate = Rate("1/minute")
    for caller in map(network_of, ("10.0.0.1", "10.0.0.2", "2001:db8:0:1::1", "2001:db8:0:2::1", "testclient")):
        rate.count(caller)
    for caller in map(network_of, ("10.0.0.1", "::ffff:10.0.0.2", "2001:db8:0:1:ffff::7", "testclient")):
        with pytest.raises(TooManyRequests):
            rate.count(caller)


def test_an_address_is_counted_with_its_network() -> None:
    client = door("2001:db8::1", rate="1/minute")
    other = TestClient(client.app, "http://127.0.0.1", client=("2001:db8:0:0:1::1", 50_000))
    assert [client.get("/version").status_code, other.get("/version").status_code] == [200, 429]


def test_many_addresses_take_bounded_memory() -> None:
    assert len(network_of("forwarded" * 1000)) == 64
    rate = Rate("1/minute")
    for i in range(2 * CALLERS + 5):
        rate.count(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert len(rate._callers) == 5
    assert len(rate._storage.storage) == 5


@pytest.mark.parametrize("rate", ["often", "0/minute", "10", "10/minute;often"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(ValidationError, match="is not a rate; accepted are 60/minute, "):
        Settings(rate=rate)
