"""A service that does not answer as it should is explained, and what can be done is offered."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from service.keys import line
from tests.end_to_end.served import served
from tests.service.doors import write


@pytest.fixture(scope="module")
def keyed(collection: Path) -> Iterator[str]:
    """The address of a service that asks for a key."""
    file = write(collection / "keys", line("ann", ("read",), "secret"))
    with served("--bundle", str(collection / "bundle"), "--keys", str(file)) as server:
        yield server.address


def first(count: int, status: int, title: str, detail: str, seconds: str) -> Callable[[Route], None]:
    """A handler that answers the first `count` requests with a problem, and lets the others pass."""
    left = [count]

    def handle(route: Route) -> None:
        left[0] -= 1
        if left[0] < 0:
            return route.continue_()
        body = json.dumps({"title": title, "detail": detail, "status": status})
        return route.fulfill(status=status, body=body, headers={"Retry-After": seconds})

    return handle


@pytest.mark.parametrize(
    ("status", "title", "detail"),
    [
        (503, "Not ready", "the network and the index are still being loaded"),
        (429, "Too many requests", "more than 5 requests a second"),
    ],
)
def test_it_tries_again_and_counts_the_seconds(status: int, title: str, detail: str, page: Page, address: str) -> None:
    page.route("**/neighbours", first(1, status, title, detail, "2"))
    page.goto(f"{address}/#/image/3")
    said = detail[0].upper() + detail[1:]
    expect(page.locator("#waiting")).to_have_text(f"{said}. Trying again in 2 s.")
    expect(page.locator("#waiting")).to_have_text(f"{said}. Trying again in 1 s.")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    expect(page.locator("#waiting")).to_be_hidden()


def test_another_question_ends_the_waiting(page: Page, address: str) -> None:
    page.route("**/neighbours", first(1, 503, "Busy", "busy", "30"))
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#waiting")).to_be_visible()
    page.goto(f"{address}/#/image/5")
    expect(page.locator("#image")).to_have_attribute("src", re.compile(r"/images/5\?v="))
    expect(page.locator("#waiting")).to_be_hidden()


@pytest.mark.parametrize("view", ["image/3", "browse", "map"])
def test_a_service_that_has_stopped_is_told_and_asked_again(view: str, page: Page, address: str) -> None:
    asked = re.compile("/(neighbours|images|map)(\\?limit=.*)?$")
    page.route(asked, lambda route: route.abort())
    page.goto(f"{address}/#/{view}")
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached. Is it running?")
    page.unroute(asked)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator({"image/3": "#tiles", "browse": "#grid", "map": "#map-body"}[view])).to_be_visible()


def test_a_key_is_asked_for_once_and_goes_with_every_request(page: Page, keyed: str) -> None:
    page.goto(f"{keyed}/#/image/3")
    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#key-why")).to_contain_text("This service asks for a key")
    page.locator("#key").fill("another")
    page.keyboard.press("Enter")
    expect(page.locator("#key-why")).to_contain_text("This key is not known here")
    page.locator("#key").fill("secret")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#truth")).to_have_text("Label: cat")
    expect(page.locator("#key-form")).to_be_hidden()
    for image in (page.locator("#image"), page.locator("#tiles img").first):  # an image can send no key itself
        expect(image).to_have_attribute("src", re.compile("^blob:"))
        expect(image).to_have_js_property("naturalWidth", 32)
    page.goto(f"{keyed}/#/browse")
    expect(page.locator("#grid img")).to_have_count(29)
    expect(page.locator("#grid img").last).to_have_js_property("naturalWidth", 32)
    page.goto(f"{keyed}/#/map")
    expect(page.locator("#map-about")).to_contain_text("29 images")
    page.reload()
    expect(page.locator("#map-about")).to_contain_text("29 images")  # it is kept while the tab is open
