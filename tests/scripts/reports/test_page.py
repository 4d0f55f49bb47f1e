"""The page is one file: it fetches nothing, and a name cannot become a tag."""

import re

import numpy as np

from model.thumbnails import thumbnail
from scripts.reports.page import Section, Tile, page

IMAGE = thumbnail(np.zeros((8, 8, 3), np.uint8))


def test_the_page_has_all_and_fetches_nothing() -> None:
    rows = [[Tile(IMAGE, "cat", "a.png", first=True), Tile(IMAGE, "dog")]]
    text = page("Title", ["Words."], [Section("One", ["Said."], IMAGE, rows), Section("Two", ["None."])])
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert re.findall(r"<h[12]>(.*?)</h", text) == ["Title", "One", "Two"]
    assert text.count('class="first"') == 1


def test_names_are_text() -> None:
    evil = '"><script>alert(1)</script>'
    text = page(evil, [evil], [Section(evil, [evil], None, [[Tile(IMAGE, evil, evil)]])])
    assert "<script" not in text
    assert '""' not in text
