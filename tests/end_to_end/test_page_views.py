"""The page's ways to an image: browsing, pasting, the camera, the history, an address that somebody sent."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.service.bundles import image_file

PASTE = """(bytes) => {
  const data = new DataTransfer();
  if (bytes.length) data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def asked_about(page: Page, image_id: int) -> None:
    """Wait for the answer about an indexed image."""
    expect(page.locator("#image")).to_have_attribute("src", re.compile(rf"/images/{image_id}\?v="))


def test_the_collection_is_browsed_by_label_and_a_page_at_a_time(page: Page, address: str) -> None:
    def ten(route: Route) -> None:
        route.continue_(url=route.request.url.replace("limit=60", "limit=10"))

    page.route("**/images?*", ten)
    page.goto(address)
    page.get_by_role("link", name="Browse").click()
    expect(page).to_have_url(f"{address}/#/browse")
    expect(page.locator("#grid img")).to_have_count(10)
    expect(page.locator("#browse-count")).to_have_text("10 of 29 images")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("#grid img")).to_have_count(20)
    expect(page.locator("#grid a").nth(10)).to_be_focused()  # the first of the new ones
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(page.locator("#grid img")).to_have_count(29)
    page.get_by_role("combobox", name="Label").select_option("frog")
    expect(page).to_have_url(f"{address}/#/browse?label=frog")
    expect(page.locator("#browse-count")).to_have_text("10 of 10 images")
    page.get_by_role("link", name="frog, image 24").click()
    expect(page).to_have_url(f"{address}/#/image/24")
    asked_about(page, 24)
    page.go_back()
    expect(page.locator("#grid img")).to_have_count(10)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_long_label_is_as_wide_as_the_screen_at_most(width: int, page: Page, address: str) -> None:
    known = {"labels": [{"label": "long" * 60, "images": 1}], "next": None}
    page.route("**/labels?*", lambda route: route.fulfill(json=known))
    page.set_viewport_size({"width": width, "height": 740})
    for view in ("image/3", "browse"):
        page.goto(f"{address}/#/{view}")
        expect(page.locator({"image/3": "#among", "browse": "#browse-label"}[view]).locator("option")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(f"{address}/#/browse?label={'typed' * 60}")
    expect(page.get_by_role("alert")).to_contain_text("No image has the label")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_address_that_was_sent_asks_the_same_question(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3?k=12")
    expect(page.locator("#tiles .tile")).to_have_count(12)
    expect(page.get_by_role("combobox", name="Show")).to_have_value("12")
    expect(page.locator("#unshared")).to_be_hidden()
    page.locator("#tiles .tile").first.click()  # the wish goes on
    expect(page).to_have_url(re.compile(r"/#/image/\d+\?k=12$"))
    page.get_by_role("combobox", name="Show").select_option("6")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    page.goto(f"{address}/#7")  # as addresses were before
    asked_about(page, 7)


def test_the_nearest_of_one_label_are_asked_for(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")  # a cat
    page.get_by_role("combobox", name="among").select_option("frog")
    expect(page).to_have_url(f"{address}/#/image/3?label=frog")
    expect(page.locator("#tiles .label")).to_have_text(["frog"] * 6)
    expect(page.locator("#proof")).to_contain_text("image with the label frog")
    page.goto(f"{address}/#/image/3?label=whale")
    expect(page.get_by_role("alert")).to_contain_text("No image has the label 'whale'")


def test_an_index_that_was_swapped_is_described_anew(page: Page, address: str) -> None:
    page.goto(f"{address}/#/browse")
    expect(page.locator("#grid img")).to_have_count(29)
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#near-title")).to_have_text("Nearest of 29 images")
    expect(page.locator("#among option")).to_have_count(4)
    wider = {"labels": [{"label": name, "images": 10} for name in ("cat", "dog", "frog", "newt")], "next": None}
    page.route("**/neighbours", lambda route: changed(route, lambda answer: answer.update(generation=2)))
    page.route("**/version", lambda route: changed(route, lambda v: v["generation"].update(number=2, images=40)))
    page.route("**/labels?*", lambda route: route.fulfill(json=wider))
    page.locator("#tiles .tile").first.click()
    expect(page.locator("#near-title")).to_have_text("Nearest of 40 images")
    page.go_back()
    asked_about(page, 3)
    expect(page.locator("#among option")).to_have_count(5)
    with page.expect_request(re.compile(r"/images\?limit=")):
        page.get_by_role("link", name="Browse").click()


def changed(route: Route, change: Callable[[dict[str, Any]], object]) -> None:
    """Answer as the service does, with a change."""
    response = route.fetch()
    answer = response.json()
    change(answer)
    route.fulfill(response=response, json=answer)


def test_the_link_is_copied(page: Page, address: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page.goto(f"{address}/#/image/3?k=12")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("status")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"{address}/#/image/3?k=12"


def test_back_and_forward_lead_through_the_questions(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    asked_about(page, 3)
    expect(page.get_by_role("navigation", name="Recent questions")).to_be_hidden()
    page.evaluate(PASTE, list(image_file(17)))
    expect(page).to_have_url(f"{address}/#/upload/1")
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "17")
    page.locator("#tiles .tile").first.click()
    asked_about(page, 17)
    page.go_back()
    expect(page.locator("#image")).to_have_attribute("src", re.compile("^blob:"))  # the upload is still there
    page.go_back()
    asked_about(page, 3)
    page.go_forward()
    expect(page.locator("#image")).to_have_attribute("src", re.compile("^blob:"))
    recent = page.get_by_role("navigation", name="Recent questions")
    expect(recent.get_by_role("link")).to_have_count(2)
    recent.get_by_role("link", name="cat").click()
    expect(page).to_have_url(f"{address}/#/image/3")


def test_an_upload_is_in_no_address(page: Page, address: str) -> None:
    page.goto(f"{address}/#/upload/1")
    expect(page.get_by_role("alert")).to_contain_text("it stays in the tab that sent it. Choose it again.")
    page.get_by_role("button", name="Show a random image").click()
    expect(page).to_have_url(re.compile(r"/#/image/\d+$"))
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_paste_without_an_image_is_said(page: Page, address: str) -> None:
    page.goto(f"{address}/#/map")
    page.evaluate(PASTE, [])
    expect(page.get_by_role("alert")).to_contain_text("There is no image in the clipboard")
    page.evaluate(PASTE, list(image_file(9)))  # from any view
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "9")


@pytest.mark.parametrize("allowed", [True, False])
def test_the_camera_takes_an_image_where_it_may(allowed: bool, browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=["camera"] if allowed else [])
    page = context.new_page()
    page.goto(f"{address}/#/image/3")
    asked_about(page, 3)
    page.get_by_role("button", name="Camera").click()
    if allowed:
        expect(page.locator("#video")).to_have_js_property("readyState", 4)
        page.get_by_role("button", name="Take it").click()
        expect(page).to_have_url(f"{address}/#/upload/1")
        expect(page.locator("#tiles .tile")).to_have_count(6)
        assert page.locator("#video").evaluate("video => video.srcObject") is None  # the camera is off again
    else:
        expect(page.get_by_role("alert")).to_contain_text("The browser did not allow the camera.")
    context.close()


def test_the_time_is_told(page: Page, address: str) -> None:
    def timed(route: Route) -> None:
        taken = "decode;dur=1.24, forward;dur=2.501, search;dur=0.312, total;dur=5.129"
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "server-timing": taken})

    page.goto(f"{address}/#/image/3")
    expect(page.locator("#time")).to_have_text(re.compile(r"^Answered in [\d.,]+ ms, [\d.,]+ of them in the service.$"))
    page.route("**/neighbours", timed)
    page.reload()
    expect(page.locator("#time")).to_contain_text("ms, 5.1 of them in the service.")
    expect(page.locator("#time")).to_have_attribute("title", "decoding 1.2 ms, network 2.5 ms, search 0.31 ms")
