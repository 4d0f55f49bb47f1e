"""Each test that docs/security.md names as its proof exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "security.md"


def test_every_way_in_names_a_test_that_exists() -> None:
    ways = PAGE.read_text().partition("## Each way in")[2]
    rows = [row.strip("|").split(" | ") for row in ways.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 15
    there = {
        name
        for file in TESTS.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.M)
    }
    for way, *_, shown in rows:
        named = re.findall(r"`(test_\w+)`", shown)
        assert named, f"{way}: no test"
        assert set(named) <= there, f"{way}: {set(named) - there}"
