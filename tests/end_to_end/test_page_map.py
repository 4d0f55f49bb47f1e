"""The map in a real browser: what it draws, by mouse and by keyboard, and where it cannot be drawn."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from service.map import packed
from service.page import FOLDER
from tests.end_to_end.vendoring import programs

# Pixels of the canvas that differ from its corner.
DRAWN = """(canvas) => {
  const { width, height } = canvas;
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
  return pixels.filter((pixel) => pixel !== pixels[0]).length;
}"""
WITHOUT_WEBGL = """
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.startsWith("webgl") ? null : context.call(this, kind, ...rest);
};
"""

# A device that lists a shader's variables the other way round, and has more attributes.
ANOTHER_DEVICE = """
const gl = WebGLRenderingContext.prototype;
const parameter = gl.getParameter;
gl.getParameter = function (name) {
  return name === this.MAX_VERTEX_ATTRIBS ? 32 : parameter.call(this, name);
};
for (const [method, count] of [["getActiveUniform", "ACTIVE_UNIFORMS"], ["getActiveAttrib", "ACTIVE_ATTRIBUTES"]]) {
  const asked = gl[method];
  gl[method] = function (program, place) {
    return asked.call(this, program, this.getProgramParameter(program, this[count]) - 1 - place);
  };
}
"""


def drawn(page: Page) -> int:
    """Wait until what is drawn stays the same, and return how many pixels of it there are."""
    before, count = -1, 0
    for _ in range(50):
        if count == before and count:
            return count
        before = count
        page.wait_for_timeout(100)
        count = page.locator("#canvas").evaluate(DRAWN)
    raise AssertionError(f"{count} pixels, then another number of them")


@pytest.fixture
def mapped(page: Page, address: str) -> Page:
    page.goto(f"{address}/#/map")
    expect(page.locator("#map-about")).to_contain_text("29 images")
    return page


def test_every_label_has_its_colour_and_shows_its_images_alone(mapped: Page) -> None:
    whole = drawn(mapped)
    legend = mapped.get_by_role("list", name="Labels").get_by_role("button")
    expect(legend).to_have_text(["cat10", "dog9", "frog10"])
    colours = {
        button.locator(".colour").evaluate("e => getComputedStyle(e).backgroundColor") for button in legend.all()
    }
    assert len(colours) == 3
    legend.nth(1).click()
    expect(legend.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(legend.nth(0)).to_have_attribute("aria-pressed", "false")
    assert 0 < drawn(mapped) < whole / 2
    mapped.locator("#canvas").focus()
    for _ in range(4):
        mapped.keyboard.press("ArrowRight")
        expect(mapped.get_by_role("status")).to_have_text(re.compile(r"^dog, image \d+\. Enter searches from it\.$"))
    mapped.get_by_role("button", name="All labels").click()
    expect(legend.first).to_be_focused()
    assert drawn(mapped) > whole / 2


def test_a_click_on_an_image_searches_from_it(mapped: Page) -> None:
    mapped.locator("#canvas").focus()
    mapped.keyboard.press("ArrowRight")
    card = mapped.locator("#card")
    expect(card).to_be_visible()
    image_id = card.inner_text().rsplit(" ", 1)[1]
    x, y = (card.evaluate(f"card => parseFloat(card.style.{side})") for side in ("left", "top"))
    mapped.locator("#canvas").hover(position={"x": x, "y": y})
    expect(mapped.locator("#card-label")).to_have_text(re.compile(rf", image {image_id}$"))
    expect(mapped.locator("#card-image")).to_have_js_property("naturalWidth", 32)
    mapped.locator("#canvas").click(position={"x": x, "y": y})
    expect(mapped).to_have_url(re.compile(rf"/#/image/{image_id}$"))
    expect(mapped.locator("#answer")).to_be_visible()
    mapped.get_by_role("link", name="Show on the map").click()
    expect(mapped.locator("#card-label")).to_have_text(re.compile(rf", image {image_id}$"))


def test_the_keyboard_is_enough_on_the_map(mapped: Page) -> None:
    first = drawn(mapped)
    mapped.get_by_role("application", name="Map of all images").focus()
    seen = set()
    for arrow in ("ArrowUp", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"):
        mapped.keyboard.press(arrow)
        expect(mapped.get_by_role("status")).to_contain_text("Enter searches from it.")
        seen.add(mapped.get_by_role("status").inner_text())
    assert len(seen) > 2
    for key in ("+", "+", "+"):
        mapped.keyboard.press(key)
        mapped.wait_for_timeout(300)
    assert drawn(mapped) != first
    mapped.keyboard.press("0")
    mapped.wait_for_timeout(300)
    mapped.keyboard.press("Enter")
    expect(mapped).to_have_url(re.compile(r"/#/image/\d+$"))
    expect(mapped.locator("#search-title")).to_be_focused()  # what had the focus is hidden now


def test_a_million_images_are_drawn(page: Page, address: str) -> None:
    n = 1_000_000  # from here on the library would start a worker, which the policy forbids
    places = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    data = packed("umap", 1, np.arange(n), places, np.full(n, -1), [])
    page.route("**/map", lambda route: route.fulfill(body=data, content_type="application/octet-stream"))
    page.goto(f"{address}/#/map")
    expect(page.locator("#map-about")).to_contain_text("1,000,000 images", timeout=60_000)


def test_an_index_without_a_map_says_how_to_make_one(page: Page, without_labels: str) -> None:
    page.goto(f"{without_labels}/#/map")
    expect(page.get_by_role("alert")).to_contain_text("scripts/build_index.py")
    expect(page.locator("#map-body")).to_be_hidden()


def test_a_browser_without_webgl_is_told(page: Page, address: str) -> None:
    page.add_init_script(WITHOUT_WEBGL)
    page.goto(f"{address}/#/map")
    expect(page.get_by_role("alert")).to_contain_text("This browser draws no WebGL, which the map needs.")
    expect(page.locator("#map-body")).to_be_hidden()
    page.get_by_role("link", name="Browse").click()
    expect(page.locator("#grid img")).to_have_count(29)


def test_the_ready_programs_fit_every_device(page: Page, address: str) -> None:
    page.add_init_script(ANOTHER_DEVICE)
    page.goto(f"{address}/#/map")
    expect(page.locator("#map-about")).to_contain_text("29 images")
    assert drawn(page)


def test_the_ready_programs_are_those_that_the_library_would_write(browser: Browser, address: str) -> None:
    context = browser.new_context(bypass_csp=True)
    written = programs(context.new_page(), address)
    context.close()
    ready = Path(FOLDER / "vendor" / "regl-programs.js").read_text()
    assert len(written) > 5
    assert [key for key, _ in written] == sorted(re.findall(r'"?([0-9a-f]{64})"?:function', ready))
