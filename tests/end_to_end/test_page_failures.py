"""A service that does not answer as it should is explained, and what can be done is offered."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from service.keys import line
from tests.end_to_end.served import served
from tests.service.bundles import image_file
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


def test_a_key_that_no_header_can_hold_is_refused_and_the_next_one_taken(page: Page, keyed: str) -> None:
    page.goto(f"{keyed}/#/image/3")
    page.locator("#key").fill("kéy…")
    page.keyboard.press("Enter")
    expect(page.locator("#key-why")).to_have_text("A key has no spaces, and no letters but a to z.")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#truth")).to_have_text("Label: cat")


def test_a_browser_that_stores_nothing_is_no_obstacle(page: Page, keyed: str) -> None:
    refused = (
        "Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.add_init_script(refused)
    page.goto(f"{keyed}/#/image/3")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#truth")).to_have_text("Label: cat")


def test_who_was_refused_without_a_key_takes_the_one_that_came_meanwhile(page: Page, keyed: str) -> None:
    late: list[Route] = []
    page.route("**/version", lambda route: route.continue_() if late else late.append(route))
    page.goto(f"{keyed}/#/image/3")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    late[0].continue_()
    expect(page.locator("#near-title")).to_have_text("Nearest of 29 images")
    expect(page.locator("#key-form")).to_be_hidden()


def test_a_late_thumbnail_does_not_replace_the_users_image(page: Page, keyed: str) -> None:
    late: list[Route] = []
    page.route(re.compile(r"/images/3\?v="), lambda route: late.append(route))
    page.goto(f"{keyed}/#/image/3")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": image_file(17)})
    expect(page.locator("#unshared")).to_be_visible()
    own = page.locator("#image").get_attribute("src")
    with page.expect_response(re.compile(r"/images/3\?v=")):
        late[0].continue_()
    page.wait_for_timeout(100)
    assert page.locator("#image").get_attribute("src") == own


def test_a_late_answer_says_nothing_in_another_view(page: Page, address: str) -> None:
    page.goto(f"{address}/#/browse")
    expect(page.locator("#grid img")).to_have_count(29)
    page.route("**/neighbours", first(1, 503, "Busy", "busy", "1"))
    page.locator("#grid a").first.click()
    expect(page.locator("#waiting")).to_be_visible()
    page.go_back()
    expect(page.locator("#waiting")).to_be_hidden()
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    page.wait_for_timeout(1200)  # by then it would have been asked again
    expect(page).to_have_title("Browse · fc7")


def test_only_a_question_shows_that_it_waits(page: Page, address: str) -> None:
    page.route("**/version", first(1, 503, "Not ready", "the index is still being loaded", "1"))
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    expect(page.locator("#waiting")).to_be_hidden(timeout=1)
    expect(page.locator("#near-title")).to_have_text("Nearest of 29 images")  # it was asked again


def test_a_date_to_come_back_at_is_not_waited_for(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "neighbours" in request.url else None)
    page.route("**/neighbours", first(99, 503, "Busy", "busy", "Wed, 21 Oct 2026 07:28:00 GMT"))
    page.goto(f"{address}/#/image/3")
    expect(page.get_by_role("alert")).to_contain_text("Busy")
    assert len(asked) == 1


def test_a_file_that_is_gone_is_not_taken_for_a_service_that_is_gone(page: Page, address: str, tmp_path: Path) -> None:
    (file := tmp_path / "a.png").write_bytes(image_file(17))
    page.goto(f"{address}/#/image/3")
    page.set_input_files("#file", file)
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "17")
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    file.unlink()
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("This file cannot be read")


def test_a_page_of_the_collection_that_did_not_come_is_asked_for_again(page: Page, address: str) -> None:
    page.route("**/images?*", lambda route: route.continue_(url=route.request.url.replace("limit=60", "limit=10")))
    page.goto(f"{address}/#/browse")
    expect(page.locator("#grid img")).to_have_count(10)
    page.route("**/images?*after=*", lambda route: route.abort())
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
    page.unroute("**/images?*after=*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#grid a").nth(10)).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
