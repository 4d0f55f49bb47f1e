"""/docs in a real browser: Swagger UI shows every parameter, sends files, and asks no other host."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.service.bundles import image_file

FORMS = {
    "classify_classify_post": ["file", "top_k", "views"],
    "neighbours_neighbours_post": ["file", "k", "exactness", "label", "image_id"],
    "embed_embed_post": ["file"],
    "classify_classify_many_post": ["files", "top_k", "views"],
    "neighbours_neighbours_many_post": ["files", "k", "exactness", "label"],
    "embed_embed_many_post": ["files"],
}


@pytest.fixture(scope="module")
def docs(browser: Browser, address: str) -> Iterator[Page]:
    """The page, open. In the end it has asked this service alone, and reported no error."""
    page, asked, errors = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{address}/docs")
    expect(page.locator(".opblock").first).to_be_visible(timeout=30_000)
    yield page
    page.close()
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(address).netloc}
    assert len(asked) >= 5
    assert errors == []


def opened(docs: Page, operation: str) -> Locator:
    block = docs.locator(f"#operations-images-{operation}")
    if not block.locator("button.execute").count():
        block.locator(".opblock-summary-control").click()
    expect(block.locator("button.execute")).to_be_visible()
    return block


def sent(block: Locator) -> str:
    """Press Execute, and return the body of an answer with status 200."""
    block.locator("button.execute").click()
    row = block.locator(".live-responses-table tr.response")
    expect(row.locator(".response-col_status").first).to_contain_text("200")
    return row.locator(".microlight, pre, code").first.inner_text()


@pytest.mark.parametrize("operation", FORMS)
def test_every_field_of_a_form_is_shown(operation: str, docs: Page) -> None:
    fields = opened(docs, operation).locator("tr[data-property-name]")
    expect(fields).to_have_count(len(FORMS[operation]))  # they are drawn after the button
    names = [field.get_attribute("data-property-name") for field in fields.all()]
    assert names == FORMS[operation]


def test_an_image_is_sent_from_the_page(docs: Page) -> None:
    block = opened(docs, "neighbours_neighbours_post")
    block.locator("input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": image_file(3)}
    )
    block.locator("tr[data-property-name=k] input[type=text]").fill("2")
    body = sent(block)
    assert '"name": "cat/0003.png"' in body
    assert body.count('"rank"') == 2


def test_an_indexed_image_is_asked_about_under_a_label(docs: Page) -> None:
    docs.reload()  # without the file
    block = opened(docs, "neighbours_neighbours_post")
    block.locator("tr[data-property-name=image_id] input[type=text]").fill("3")
    block.locator("tr[data-property-name=label] input[type=text]").fill("frog")
    body = sent(block)
    assert body.count('"rank"') == body.count('"name": "frog/') == 6


def test_several_images_are_sent_from_the_page(docs: Page) -> None:
    block = opened(docs, "classify_classify_many_post")
    block.locator("button.json-schema-form-item-add").click()
    for place, file in enumerate((image_file(3), b"no image")):
        chosen = {"name": f"{place}.png", "mimeType": "image/png", "buffer": file}
        block.locator("input[type=file]").nth(place).set_input_files(chosen)  # type: ignore[arg-type]
    body = sent(block)
    assert body.count('"answer": null') == body.count('"problem": null') == 1
