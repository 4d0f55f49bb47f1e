"""`evaluate.py --retrieval` measures a bundle again, and says whether the manifest's figures hold."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Bundle, Generation
from index.quality import measure_again
from index.queries import Queries
from scripts.command import Refused
from scripts.evaluate import Evaluate, job
from scripts.indexing.remeasured import remeasured
from tests.index.blocks import build, features_of

NAMES = tuple(f"query {i}" for i in range(8))


def bundle(folder: Path, change: Any = None) -> Path:
    """Build one whose manifest says what `change` makes of the measured quality."""
    (folder / "checkpoint").write_bytes(b"weights")
    with closing(build(folder / "bundle", folder / "checkpoint")) as first:
        gone = int(first.ids[0])

    def measure(generation: Generation) -> dict[str, Any]:
        Queries(np.stack([features_of(name) for name in NAMES]), NAMES, ("cat",) * 8, None).write(generation.path)
        quality = measure_again(generation)
        if change:
            change(quality)
        return quality

    Bundle(folder / "bundle").remove([gone], measure).close()
    return folder / "bundle"


def test_the_table_says_that_the_manifest_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(Evaluate(retrieval=bundle(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "8 queries"
    assert lines[1].startswith("recall@6, certified (8 by brute force)  100.00% (")
    assert lines[-1] == "every share is within the manifest's interval"


def test_it_says_which_figure_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle(tmp_path, lambda quality: quality["agreement"].update(value=0.999, low=0.998, high=1.0))
    job(Evaluate(retrieval=path))
    assert capsys.readouterr().out.splitlines()[-1] == "outside the manifest's interval: agreement"
    found = json.loads(remeasured(path, as_json=True))
    assert (found["recorded"]["agreement"]["low"], found["outside"]) == (0.998, ["agreement"])
    assert found["again"]["certified"]["recall"]["value"] == 1


def test_without_labels_the_table_says_so(tmp_path: Path) -> None:
    path = bundle(tmp_path, lambda quality: quality.update(agreement=None))
    assert "no labels" in remeasured(path, as_json=False)


def test_a_manifest_edited_by_hand_is_refused_in_one_line(tmp_path: Path) -> None:
    path = bundle(tmp_path, lambda quality: quality.pop("measured"))
    with pytest.raises(Refused, match=r"quality is not what build_index.py writes \(KeyError\('measured'\)\)"):
        remeasured(path, as_json=False)


def test_a_bundle_without_queries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"weights")
    build(tmp_path / "bundle", tmp_path / "checkpoint").close()
    with pytest.raises(Refused, match="holds no queries"):
        remeasured(tmp_path / "bundle", as_json=False)
