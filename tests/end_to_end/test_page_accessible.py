"""axe (WCAG 2.2 A and AA, and best practices) finds no violation in any view, in light and dark, phone and desktop."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect


def violations(page: Page) -> list[str]:
    found = Axe().run(page)
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found.response["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_view_has_a_violation(width: int, scheme: str, browser: Browser, address: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#tiles .tile")).to_have_count(6)
    page.locator("#tiles .tile").first.click()
    expect(page.locator("#recent")).to_be_visible()
    assert violations(page) == []
    page.goto(f"{address}/#/browse")
    expect(page.locator("#grid img")).to_have_count(29)
    assert violations(page) == []
    page.goto(f"{address}/#/map")
    page.locator("#legend button").first.click()
    page.locator("#canvas").press("ArrowRight")
    expect(page.locator("#card")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(f"{address}/#/upload/1")
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == []
    context.close()
