"""An index is laid out as it was asked for, or as its planner says; running a build again changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import Bundle, Layout, open_search, planner
from index.planner import BadSize, TooLittleMemory
from scripts.build_index import Config, job
from tests.scripts.indexing.runs import photo, said

pytestmark = pytest.mark.timeout(60)


def layout_of(bundle: Path) -> Layout:
    generation = Bundle(bundle).current()
    generation.close()
    return generation.layout


def test_few_images_are_flat_and_the_reason_is_told(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    job(config)
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("index: flat, every row compared: 3 rows are few (fewer than 5,000)")
    assert "MiB with the rows" in lines[at + 1]
    assert "expected for one query on the CPU" in lines[at + 2]
    assert layout_of(config.bundle) == Layout(map="pca")


@pytest.mark.parametrize("kind", ["panorama", "hnsw"])
def test_a_layout_is_made_searched_and_kept(
    kind: planner.Wanted, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = replace(config, index=kind)
    job(wanted)
    generation = Bundle(config.bundle).current()
    assert generation.layout.kind == kind
    assert list(generation.segments[0].path.glob("proof-*.faiss"))
    found = open_search(generation).search(generation.rows(generation.ids), 1)
    np.testing.assert_array_equal(found.ids[:, 0], generation.ids)
    generation.close()
    assert "nothing to do" in " ".join(said(wanted, capsys))
    photo(config.images / "new.png", 9)
    job(wanted)
    generation = Bundle(config.bundle).current()
    assert len(generation.segments) == 2
    found = open_search(generation).search(generation.rows(generation.ids), 1)
    np.testing.assert_array_equal(found.ids[:, 0], generation.ids)
    generation.close()


def test_another_layout_is_made_without_embedding(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job(config)
    monkeypatch.setattr("model.embed.Embedder.__call__", None)
    lines = " ".join(said(replace(config, index="panorama"), capsys))
    assert "generation 2 published" in lines
    assert layout_of(config.bundle).kind == "panorama"
    job(config)
    assert (layout_of(config.bundle), Bundle(config.bundle).current().number) == (Layout(map="pca"), 3)


def test_all_sources_count(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images are few, five are not; what is added and what was there give the same plan."""

    def by_rows(rows: int, *_: object) -> planner.Choice:
        layout = Layout("panorama", 6, 3) if rows >= 5 else Layout()
        return planner.Choice(layout, 0, 0, 0, ("index: by rows", "", ""))

    monkeypatch.setattr("scripts.indexing.laying.plan", by_rows)
    for _ in range(2):  # its own images do not count twice
        job(config)
        assert layout_of(config.bundle).kind == "flat"
    more = tmp_path / "more"
    for number in range(2):
        photo(more / f"{number}.png", 20 + number)
    job(replace(config, images=Config.images, checkpoint=Config.checkpoint, add=more))
    assert layout_of(config.bundle).kind == "panorama"
    job(config)
    assert (layout_of(config.bundle).kind, Bundle(config.bundle).current().number) == ("panorama", 2)


def test_a_size_that_is_none_and_one_that_is_too_small_are_refused(config: Config) -> None:
    with pytest.raises(BadSize, match="'4 apples' is no size of memory"):
        job(replace(config, memory="4 apples"))
    with pytest.raises(TooLittleMemory, match="--index hnsw: at least"):
        job(replace(config, index="hnsw", memory="0.00001MiB"))
    assert not (config.bundle / "CURRENT").exists()
