"""Queries come back as they were kept; files that do not fit are told in one line."""

from pathlib import Path

import numpy as np
import pytest

from index.manifest import BadBundle
from index.queries import Queries

QUERIES = Queries(
    np.arange(6, dtype=np.float32).reshape(3, 2), ("a.png", "b/ü.png", "c"), ("cat", None, "dog"), "/images"
)


def test_queries_come_back(tmp_path: Path) -> None:
    assert Queries.read(tmp_path) is None
    QUERIES.write(tmp_path)
    back = Queries.read(tmp_path)
    assert back is not None
    np.testing.assert_array_equal(back.features, QUERIES.features)
    assert (back.names, back.labels, back.source) == (QUERIES.names, QUERIES.labels, QUERIES.source)


def test_labels_follow_the_names_of_the_classes() -> None:
    assert QUERIES.class_ids(["bird", "dog", "cat"]).tolist() == [2, -1, 1]
    assert QUERIES.class_ids(["dog"]).tolist() == [-1, -1, 0]


@pytest.mark.parametrize(
    "damage", ["cut short", "empty", "float64", "another count", "no features", "not JSON", "no names"]
)
def test_damaged_queries_are_told_in_one_line(tmp_path: Path, damage: str) -> None:
    QUERIES.write(tmp_path)
    features, about = tmp_path / "queries.npy", tmp_path / "queries.json"
    match damage:
        case "cut short":
            features.write_bytes(features.read_bytes()[:-5])
        case "empty":
            features.write_bytes(b"")
        case "float64":
            np.save(features, QUERIES.features.astype(np.float64))
        case "another count":
            np.save(features, QUERIES.features[:2])
        case "no features":
            features.unlink()
        case "not JSON":
            about.write_text("{")
        case "no names":
            about.write_text("{}")
    with pytest.raises(BadBundle, match=r"queries\.(json|npy): [^\n]+$"):
        Queries.read(tmp_path)
