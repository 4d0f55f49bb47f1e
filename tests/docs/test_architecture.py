"""ARCHITECTURE.md names every file once, in its folder, and nothing that is not there."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
PACKAGES = ("model", "index", "service", "scripts")


def test_every_file_is_named_once_in_its_folder() -> None:
    there = [*ROOT.glob("*.py"), *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]
    wanted = {str(file.relative_to(ROOT)) for file in there if file.name != "__init__.py"}
    named: Counter[str] = Counter()
    files = TEXT.partition("## Every file")[2].partition("\n## ")[0]
    for entry in files.split("\n- **`")[1:]:
        place, said = entry.split("`**", 1)
        if place.endswith("/"):
            named.update(place + name for name in re.findall(r"`(\w+\.py)`", said))
        else:
            named[place] += 1
    assert set(named) == wanted
    assert [name for name, times in named.items() if times > 1] == []
    assert len(re.findall(r"\b\w+\.py\b", TEXT)) == len(wanted)  # and nowhere else on the page


def test_it_fits_a_page() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 150
