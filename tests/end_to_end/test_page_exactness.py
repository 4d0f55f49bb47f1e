"""The page says in words how right an answer is, and which files hold an image."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

RECALL = {"value": 0.9993, "low": 0.9985, "high": 0.9997, "k": 6}
CERTIFIED = "Proven: no image of the collection is nearer."
EXACT = "Compared with every image of the collection: none is nearer."
MEASURED = "Not proven: such answers hold 99.93% of the true 6 nearest, on average (95% interval: 99.85% to 99.97%)."


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Route], None]:
    """A handler that changes the service's answer."""

    def handle(route: Route) -> None:
        response = route.fetch()
        answer = response.json()
        change(answer)
        route.fulfill(response=response, json=answer)

    return handle


@pytest.mark.parametrize(
    ("exactness", "recall", "words"),
    [("certified", None, CERTIFIED), ("exact", None, EXACT), ("measured", RECALL, MEASURED)],
)
def test_it_says_how_right_the_answer_is(
    exactness: str, recall: dict[str, float] | None, words: str, page: Page, address: str
) -> None:
    page.route("**/neighbours", changed(lambda answer: answer.update(exactness=exactness, recall=recall)))
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#proof")).to_have_text(words)


def test_the_quickest_answer_is_offered_where_its_recall_is_known(page: Page, address: str) -> None:
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#proof")).to_have_text(CERTIFIED)
    expect(page.locator("#about")).not_to_be_empty()  # /version has been read
    expect(page.get_by_label("Answer")).to_be_hidden()

    page.route("**/version", changed(lambda version: version["generation"].update(recall={"measured": RECALL})))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or "") if "neighbours" in request.url else None)
    page.reload()
    for wanted in ("measured", "certified"):
        page.get_by_label("Answer").select_option(wanted)
        query = "" if wanted == "certified" else f"?exactness={wanted}"
        expect(page).to_have_url(f"{address}/#/image/3{query}")
        expect(page.locator("#status")).to_contain_text("Nearest: ")
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
        assert f'name="exactness"\r\n\r\n{wanted}\r\n' in asked[-1]
        assert 'name="image_id"\r\n\r\n3\r\n' in asked[-1]


def test_it_tells_when_several_files_hold_an_image(page: Page, address: str) -> None:
    names = [f"cat/{'long' * 20}{i}.png" for i in range(20)]
    first = {"name": names[0], "names": names, "names_count": 1203}
    page.route("**/neighbours", changed(lambda answer: answer["neighbours"][1].update(first)))
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{address}/#/image/3")
    tiles = page.locator("#tiles .tile")
    expect(tiles.nth(0).locator(".more")).to_have_text("1,203 files")
    expect(tiles.nth(0)).to_have_attribute("title", "\n".join([*names, "and 1,183 more"]))
    expect(tiles.nth(0)).to_have_accessible_name(re.compile("1,203 files"))
    expect(tiles.nth(1).locator(".more")).to_be_empty()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_does_not_wait_for_a_damaged_index(page: Page, address: str) -> None:
    detail = "features.npy of the index is not the file that was published"
    problem = json.dumps({"title": "Damaged index", "detail": detail})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "neighbours" in request.url else None)
    page.route("**/neighbours", lambda route: route.fulfill(status=503, body=problem))
    page.goto(f"{address}/#/image/3")
    expect(page.locator("#problem")).to_have_text("Damaged index" + detail.capitalize() + ". Try again")
    assert len(asked) == 1
