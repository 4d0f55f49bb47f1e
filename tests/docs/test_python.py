"""The code in docs/python.md runs as it stands, and what it finds is what the definition finds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import exact
from tests.images import encoded, photograph
from tests.service.bundles import build, image_file

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
INDEXED = 4  # this image is in the collection too


def test_the_python_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "cifar10").symlink_to(build(tmp_path))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "new.jpg").write_bytes(encoded(photograph(40, 50, seed=99), "JPEG"))
    (tmp_path / "photos" / "old.png").write_bytes(image_file(INDEXED))
    monkeypatch.chdir(tmp_path)

    left: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), left)

    generation = left["generation"]
    distances, ids = exact.nearest(generation.all_rows(), generation.ids, left["features"], 6)
    np.testing.assert_array_equal(left["answers"].ids, ids)
    np.testing.assert_array_equal(left["answers"].distances, distances)
    assert left["answers"].ids[1, 0] == INDEXED
    assert left["answers"].distances[1, 0] < 1e-4  # not 0: a batch of another size rounds otherwise
    assert left["probabilities"].shape == (2, len(generation.manifest.classes))
    assert capsys.readouterr().out.splitlines()[1].startswith(f"old.png certified ['cat/{INDEXED:04}.png', ")
    generation.close()
