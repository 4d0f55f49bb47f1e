"""The page in a real browser: mouse, keyboard, drag and drop, wide and narrow screens, errors."""

import re
from itertools import cycle
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from model.data.sources import printable
from tests.end_to_end.conftest import HOSTILE
from tests.images import encoded, photograph
from tests.service.bundles import image_file

DROP = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
  document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def labels(page: Page) -> list[str]:
    return page.locator("#bars .label").all_inner_texts()


def test_it_opens_on_an_image_of_the_collection(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#tiles .tile")).to_have_count(6)
    expect(page.locator("#tiles .distance").first).to_contain_text("distance ")
    expect(page.locator("#near-title")).to_have_text("Nearest of 29 images")
    assert sorted(labels(page)) == ["cat", "dog", "frog"]
    assert page.locator("#truth b").inner_text() in ("cat", "dog", "frog")
    assert page.locator("#bars li.true").count() == 1
    expect(page).to_have_url(re.compile(r"/#/image/\d+$"))


def test_the_true_label_has_a_colour_of_its_own(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")  # a cat
    expect(page.locator("#truth")).to_have_text("Label: cat")
    expect(page.locator("#bars li.true .label")).to_have_text("cat")
    colour = "element => getComputedStyle(element).backgroundColor"
    true = page.locator("#bars li.true .bar").evaluate(colour)
    others = {bar.evaluate(colour) for bar in page.locator("#bars li:not(.true) .bar").all()}
    assert len(others) == 1
    assert true not in others
    expect(page.locator("#image")).to_have_css("image-rendering", "pixelated")  # once the image is loaded


def test_a_bar_is_as_long_as_its_label_is_probable(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#bars li")).to_have_count(3)
    shares = [float(text.rstrip("%")) / 100 for text in page.locator("#bars .share").all_inner_texts()]
    length = "bars => bars.map((bar) => bar.getBoundingClientRect().width / bar.parentNode.clientWidth)"
    still = "bars => Promise.all(bars.flatMap((bar) => bar.getAnimations()).map((animation) => animation.finished))"
    page.locator("#bars .bar").evaluate_all(still)
    assert page.locator("#bars .bar").evaluate_all(length) == pytest.approx(shares, abs=0.01)


def test_an_image_without_a_label_goes_by_its_name_and_what_the_network_sees(page: Page, without_labels: str) -> None:
    page.goto(f"{without_labels}/#/image/3")
    expect(page.locator("#truth")).to_have_text("0003.png")
    expect(page.locator("#image")).to_have_attribute("alt", "the image you asked about: 0003.png")
    answer = page.request.post(f"{without_labels}/neighbours", form={"image_id": 3, "k": 7}).json()
    assert (answer["name"], answer["true_label"]) == ("0003.png", None)
    for found, tile in zip(answer["neighbours"][1:], page.locator("#tiles .tile").all(), strict=True):
        said = f"{found['predicted']['label']} {100 * found['predicted']['probability']:.1f}%"
        assert found["label"] is None
        expect(tile.locator(".label")).to_have_text(found["name"])
        expect(tile.locator(".said")).to_have_text(said)
        expect(tile).to_have_accessible_name(re.compile(f"^{re.escape(found['name'])} {said} distance "))
    expect(page.get_by_role("status")).to_have_text(re.compile(r"Nearest: (\d seen as (cat|dog|frog)(, |\.$))+"))


def test_an_image_with_a_label_goes_by_it(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    answer = page.request.post(f"{address}/neighbours", form={"image_id": 3, "k": 7}).json()
    expect(page.locator("#tiles .tile")).to_have_count(6)
    for found, tile in zip(answer["neighbours"][1:], page.locator("#tiles .tile").all(), strict=True):
        predicted = found["predicted"]["label"]
        expect(tile.locator(".label")).to_have_text(found["label"])
        expect(tile.locator(".said")).to_have_text(
            re.compile("^$" if predicted == found["label"] else f"^{predicted} ")
        )
        expect(tile).to_have_attribute("title", f"{found['label']}/{found['image_id']:04}.png")  # the whole path


@pytest.mark.parametrize("width", [360, 1440])
def test_a_hostile_name_is_shown_as_text(width: int, page: Page, without_labels: str) -> None:
    names = [printable(name) for name in HOSTILE.values()]  # as the catalogue has them

    def with_these_names(route: Route) -> None:
        response = route.fetch()
        answer = response.json()
        for found, name in zip(answer["neighbours"][1:], cycle(names), strict=False):
            found["name"] = name
        route.fulfill(response=response, json=answer)

    page.route("**/neighbours", with_these_names)
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(f"{without_labels}/#/image/5")
    expect(page.locator("#truth")).to_have_text(names[0])
    expect(page.locator("#tiles .label")).to_have_text(names + names[:2])
    assert page.locator("#answer img").count() == 7
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for tile in page.locator("#tiles .tile").all():
        outer, inner = tile.bounding_box(), tile.locator(".label").bounding_box()
        assert outer is not None
        assert inner is not None
        assert outer["x"] <= inner["x"]
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 0.5
        assert inner["height"] < 40  # two lines
        assert tile.locator(".label").evaluate("label => label.scrollWidth <= label.clientWidth")


def test_a_wide_photograph_is_shown_whole_and_in_a_square_tile(page: Page, address: str) -> None:
    wide = encoded(photograph(40, 160), "JPEG")
    page.route("**/images/*", lambda route: route.fulfill(body=wide, content_type="image/jpeg"))
    page.goto(f"{address}/#/image/3")
    for place, shape in ((page.locator("#image"), 4), (page.locator("#tiles img").first, 1)):
        expect(place).to_have_js_property("naturalWidth", 160)
        expect(place).to_have_css("image-rendering", "auto")
        box = place.bounding_box()
        assert box is not None
        assert box["width"] / box["height"] == pytest.approx(shape, rel=0.05)
    expect(page.locator("#tiles img").first).to_have_css("object-fit", "cover")


def test_an_indexed_image_is_not_its_own_neighbour(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    assert "3" not in page.locator("#tiles .tile").evaluate_all("tiles => tiles.map((tile) => tile.dataset.imageId)")


def test_a_chosen_file_is_answered(page: Page, address: str, collection: Path) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.set_input_files("#file", collection / "images" / "frog" / "0025.png")
    expect(page.locator("#truth")).to_be_empty()  # nobody knows what a stranger's image is
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "25")
    assert page.locator("#bars li.true").count() == 0
    assert str(page.locator("#image").get_attribute("src")).startswith("blob:")
    expect(page.locator("#image")).to_have_js_property("naturalWidth", 32)
    expect(page).to_have_url(f"{address}/#/upload/1")
    expect(page.locator("#unshared")).to_be_visible()


def test_a_dropped_file_is_answered(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.evaluate(DROP, list(image_file(17)))
    expect(page.locator("#tiles .tile").first).to_have_attribute("data-image-id", "17")


def test_a_neighbour_leads_on_and_the_back_button_back(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    tile = page.locator("#tiles .tile").nth(2)
    expect(tile).to_be_visible()
    image_id = tile.get_attribute("data-image-id")
    tile.click()
    expect(page).to_have_url(f"{address}/#/image/{image_id}")
    expect(page.locator("#image")).to_have_attribute("src", re.compile(f"/images/{image_id}\\?v="))
    page.go_back()
    expect(page.locator("#image")).to_have_attribute("src", re.compile(r"/images/3\?v="))


def test_random_asks_about_another_image(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/12")  # this one was skipped
    expect(page.locator("#problem")).to_have_text("No such imageNo image 12 in this collection.")
    page.get_by_role("button", name="Random image").click()
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#problem")).to_be_hidden()


def test_the_keyboard_is_enough(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#among option")).to_have_count(4)
    expect(page.locator("#tiles .tile")).to_have_count(6)
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        name = "document.activeElement.id || document.activeElement.className || document.activeElement.dataset.view"
        reached.append(page.evaluate(name))
        outline = "getComputedStyle({}).outlineStyle"
        focused = "document.activeElement.id === 'file' ? document.activeElement.labels[0] : document.activeElement"
        assert page.evaluate(outline.format(focused)) in ("solid", "auto")
    controls = ["search", "browse", "map", "file", "camera", "random", "share", "on-map", "k", "among"]
    assert reached == controls + ["tile"] * 6
    image_id = page.evaluate("document.activeElement.dataset.imageId")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{address}/#/image/{image_id}")
    expect(page.locator("#status")).to_contain_text("Nearest: ")
    assert page.evaluate("document.activeElement.className") == "tile"  # focus stays where it was


def test_what_happens_is_told_to_a_screen_reader(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    status = page.get_by_role("status")
    expect(status).to_contain_text("Nearest: ")
    assert status.get_attribute("aria-live") == "polite"
    for name in ("Choose an image", "Random image", "The most probable labels"):
        assert page.locator("body").aria_snapshot().count(name) >= 1


def test_a_file_that_is_no_image_is_refused_in_words(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}/#/image/3")
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
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#truth")).not_to_be_empty()
    page.route("**/images/random", lambda route: route.abort())
    page.get_by_role("button", name="Random image").click()
    expect(page.locator("#problem")).to_have_text("No answerThe service cannot be reached. Is it running? Try again")
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
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#status")).to_have_text("The network is still being loaded. Trying again.")
    expect(page.locator("#waiting")).to_have_text("The network is still being loaded. Trying again in 1 s.")
    expect(page.locator("#truth")).to_have_text("Label: cat")
    expect(page.locator("#waiting")).to_be_hidden()
    assert len(asked) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_fits_the_screen(width: int, scheme: str, browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [tile.bounding_box() for tile in page.locator("#tiles .tile").all()]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["width"] >= 90 for box in boxes)
    page.close()
