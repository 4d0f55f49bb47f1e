"""The page in a real browser: mouse, keyboard, drag and drop, wide and narrow screens, errors."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.chromium import chromium
from tests.end_to_end.served import served
from tests.service.bundles import build, image_file

DROP = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
  document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


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


def labels(page: Page) -> list[str]:
    return page.locator("#bars .label").all_inner_texts()


def test_it_opens_on_an_image_of_the_collection(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#tiles .tile")).to_have_count(6)
    expect(page.locator("#tiles .distance").first).to_contain_text("distance ")
    expect(page.locator("#near-title")).to_have_text("Nearest of 29 training images")
    assert sorted(labels(page)) == ["cat", "dog", "frog"]
    assert page.locator("#truth b").inner_text() in ("cat", "dog", "frog")
    assert page.locator("#bars li.true").count() == 1
    assert page.url.rsplit("#")[1].isdigit()


def test_the_true_label_has_a_colour_of_its_own(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")  # a cat
    expect(page.locator("#truth")).to_have_text("True label: cat")
    expect(page.locator("#bars li.true .label")).to_have_text("cat")
    colour = "element => getComputedStyle(element).backgroundColor"
    true = page.locator("#bars li.true .bar").evaluate(colour)
    others = {bar.evaluate(colour) for bar in page.locator("#bars li:not(.true) .bar").all()}
    assert len(others) == 1
    assert true not in others
    expect(page.locator("#image")).to_have_css("image-rendering", "pixelated")  # once the image is loaded


def test_an_indexed_image_is_not_its_own_neighbour(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    assert "3" not in page.locator("#tiles .tile").evaluate_all("tiles => tiles.map((tile) => tile.dataset.imageId)")


def test_a_chosen_file_is_answered(page: Page, address: str, collection: Path) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.set_input_files("#file", collection / "images" / "frog" / "0025.png")
    expect(page.locator("#truth")).to_be_empty()  # nobody knows what a stranger's image is
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "25")
    assert page.locator("#bars li.true").count() == 0
    assert str(page.locator("#image").get_attribute("src")).startswith("blob:")
    expect(page.locator("#image")).to_have_js_property("naturalWidth", 32)
    assert "#" not in page.url


def test_a_dropped_file_is_answered(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.evaluate(DROP, list(image_file(17)))
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "17")


def test_a_neighbour_leads_on_and_the_back_button_back(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    tile = page.locator("#tiles .tile").nth(2)
    expect(tile).to_be_visible()
    image_id = tile.get_attribute("data-image-id")
    tile.click()
    expect(page).to_have_url(f"{address}/#{image_id}")
    expect(page.locator("#image")).to_have_attribute("src", re.compile(f"/images/{image_id}\\?v="))
    page.go_back()
    expect(page.locator("#image")).to_have_attribute("src", re.compile(r"/images/3\?v="))


def test_random_asks_about_another_image(page: Page, address: str) -> None:
    page.goto(f"{address}/#12")  # this one was skipped
    expect(page.locator("#problem")).to_have_text("No such imageNo image 12 in this collection.")
    page.get_by_role("button", name="Random image").click()
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#problem")).to_be_hidden()


def test_the_keyboard_is_enough(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outline = "getComputedStyle({}).outlineStyle"
        focused = "document.activeElement.id === 'file' ? document.activeElement.labels[0] : document.activeElement"
        assert page.evaluate(outline.format(focused)) == "solid"
    assert reached == ["file", "random"] + ["tile"] * 6
    image_id = page.evaluate("document.activeElement.dataset.imageId")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/#{image_id}")
    expect(page.locator("#status")).to_contain_text("Nearest: ")
    assert page.evaluate("document.activeElement.className") == "tile"  # focus stays where it was


def test_what_happens_is_told_to_a_screen_reader(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    status = page.get_by_role("status")
    expect(status).to_contain_text("Nearest: ")
    assert status.get_attribute("aria-live") == "polite"
    for name in ("Choose an image", "Random image", "The most probable labels"):
        assert page.locator("body").aria_snapshot().count(name) >= 1


def test_a_file_that_is_no_image_is_refused_in_words(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#truth")).not_to_be_empty()
    (tmp_path / "page.jpg").write_text("<!doctype html><p>not an image")
    page.set_input_files("#file", tmp_path / "page.jpg")
    expect(page.get_by_role("alert")).to_have_text(
        "Not an imageNot an image in a known format; "
        "accepted are JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, PPM and JPEG 2000."
    )
    page.get_by_role("button", name="Random image").click()
    expect(page.locator("#problem")).to_be_hidden()


def test_a_service_that_is_gone_is_told_in_words(page: Page, address: str) -> None:
    page.goto(f"{address}/#3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.route("**/images/random", lambda route: route.abort())
    page.get_by_role("button", name="Random image").click()
    expect(page.locator("#problem")).to_have_text("No answerThe service cannot be reached. Is it running?")
    page.unroute("**/images/random")


def test_it_waits_for_a_service_that_is_still_loading(page: Page, address: str) -> None:
    asked: list[str] = []

    def first_not_ready(route: object) -> None:
        asked.append("neighbours")
        if len(asked) == 1:
            body = '{"title": "Not ready", "detail": "the network is still being loaded"}'
            route.fulfill(status=503, body=body, headers={"Retry-After": "1"})  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/neighbours", first_not_ready)
    page.goto(f"{address}/#3")
    expect(page.locator("#status")).to_have_text("The network is still being loaded.")
    expect(page.locator("#truth")).to_have_text("True label: cat")
    assert len(asked) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_fits_the_screen(width: int, scheme: str, browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{address}/#3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [tile.bounding_box() for tile in page.locator("#tiles .tile").all()]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] >= 90 for box in boxes)
    page.close()


def test_the_routes_are_shown_in_words(page: Page, address: str) -> None:
    page.goto(f"{address}/docs")
    expect(page.locator("section")).to_have_count(9)
    expect(page.locator("section").first).to_contain_text(f"curl -F file=@image.jpg -F top_k=5 -F views=1 {address}")
    expect(page.locator("section").nth(1)).to_contain_text(f"curl -F file=@image.jpg -F k=6 {address}/neighbours")
