"""scripts/report.py on a small bundle: every report is on the page and in the table, and says what is there."""

import csv
import errno
import io
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index import Bundle, exact, open_search
from index.queries import Queries
from model import Embedder
from model.data import held_out
from model.data.class_names import people_names
from model.data.folders import folder_source
from scripts.command import Refused
from scripts.indexing.held_out import hold_out, measuring
from scripts.report import Config, job
from scripts.reports import sections
from scripts.reports.neighbourhoods import of_collection, of_source
from tests.images import encoded, photograph
from tests.service.bundles import BROKEN, CLASSES, build, image_file, in_class_folders, network

SECTIONS = [
    "Near-duplicates of held-out images",
    "Held-out images with another label than their six nearest",
    "Pixels and fc7",
    "Groups of near-duplicates in the collection",
    "Indexed images with another label than their six nearest",
]


def quiet(*_: object) -> None:
    pass


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset whose training images are indexed; one image of its split val is indexed, too, and one is broken."""
    bundle = build(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "images").rename(tmp_path / "data" / "train")
    for image_id, name in ((3, "cat/same.png"), (90, "dog/new.png"), (91, "new.png"), (BROKEN, "dog/broken.png")):
        file = tmp_path / "data" / "val" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_file(image_id))
    assert bundle == tmp_path / "bundle"
    return tmp_path / "data"


def written(out: Path) -> tuple[str, list[Mapping[str, str]]]:
    with (out / "findings.csv").open(newline="") as file:
        return (out / "page.html").read_text(), list(csv.DictReader(file))


@pytest.mark.slow
def test_every_report_is_on_the_page_and_in_the_table(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job(Config(bundle=tmp_path / "bundle", images=dataset, out=tmp_path / "out", device="cpu"))
    text, rows = written(tmp_path / "out")
    assert re.findall("<h2>(.*?)</h2>", text) == SECTIONS
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[:5]] == SECTIONS
    (same, *_) = [row for row in rows if row["report"] == "held-out"]
    assert (same["image"], same["neighbour"]) == ("cat/same.png", in_class_folders(3))
    assert float(same["distance"]) < 1e-4
    by_pixels = [row for row in rows if row["report"] == "nearest by pixels"]
    assert [
        len({row["image"] for row in rows if row["report"] == f"nearest by {way}"}) for way in ("pixels", "fc7")
    ] == [3, 3]
    assert (by_pixels[0]["image"], by_pixels[0]["neighbour"], float(by_pixels[0]["distance"])) == (
        "cat/same.png",
        in_class_folders(3),
        0,
    )
    assert {row["label"] for row in rows if row["image"] == "new.png"} == {"no label"}
    assert not any("broken" in row["image"] for row in rows)


@pytest.mark.slow
def test_images_that_were_kept_out_are_compared_where_there_is_no_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(held_out, "SHARE", 3)
    bundle = Bundle(build(tmp_path))
    config = Config(bundle=bundle.path, images=tmp_path / "images", out=tmp_path / "out", device="cpu")
    job(config)
    assert "no held-out images" in capsys.readouterr().out
    assert re.findall("<h2>(.*?)</h2>", written(tmp_path / "out")[0]) == SECTIONS[3:]

    held = hold_out(tmp_path / "images", folder_source(tmp_path / "images", 32), "key", 4, bundle)
    with closing(bundle.current()) as generation:
        gone = int(generation.ids[0])
    bundle.remove([gone], measuring(held, Embedder(network(), "cpu"))).close()
    job(config)
    text, rows = written(tmp_path / "out")
    assert re.findall("<h2>(.*?)</h2>", text) == SECTIONS
    assert held.queries is not None
    names = {name for name, _, _ in held.queries.entries()} - {in_class_folders(BROKEN)}
    assert {row["image"] for row in rows if row["report"] == "nearest by fc7"} == names


def test_too_small_an_index_and_no_image_to_search_for_are_refused(tmp_path: Path) -> None:
    bundle = Bundle(build(tmp_path))
    config = Config(bundle=bundle.path, images=tmp_path / "images", out=tmp_path / "out", device="cpu", most=0)
    with pytest.raises(Refused, match="--most 0"):
        job(config)
    with closing(bundle.current()) as generation:
        gone = generation.ids[6:].tolist()
    bundle.remove(gone).close()
    with pytest.raises(Refused, match="6 images; a report needs more than 6"):
        job(Config(bundle=bundle.path, images=tmp_path / "images", out=tmp_path / "out", device="cpu"))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_or_is_not_there_is_refused_before_the_search(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.report.open_search", lambda *_, **__: None)
    (tmp_path / "file").touch()
    config = Config(bundle=tmp_path / "bundle", images=dataset, out=tmp_path / "file" / "out", device="cpu")
    with pytest.raises(Refused, match=r"file.*: cannot be written: "):
        job(config)
    queries = Queries(np.zeros((1, 12), np.float32), ("cat/gone.png",), (None,), "/photos")
    monkeypatch.setattr(Queries, "read", lambda _: queries)
    with pytest.raises(Refused, match=r"--images .*val: none of the 1 images that were kept out of /photos"):
        job(replace(config, images=dataset / "val", out=tmp_path / "out"))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    config = Config(bundle=build(tmp_path), images=tmp_path / "images", out=tmp_path / "out", device="cpu")
    monkeypatch.setattr("scripts.report.files.replace", full)
    monkeypatch.setattr("scripts.report.collection_reports", lambda *_: iter(()))
    with pytest.raises(Refused, match="no space left"):
        job(config)


def test_no_indexed_image_is_its_own_neighbour_and_evenly_chosen_ones_are_searched_for(tmp_path: Path) -> None:
    bundle = Bundle(build(tmp_path))
    with closing(bundle.current()) as generation:
        near = of_collection(generation, open_search(generation), 10, quiet)
        assert near.images.tolist() == generation.ids[np.arange(10) * 29 // 10].tolist()
        _, ids = exact.nearest(generation.all_rows(), generation.ids, generation.rows(near.images), 25)
        assert (ids[:, 0] == near.images).all()
        np.testing.assert_array_equal(near.ids, ids[:, 1:])
        assert near.label_of[0].tolist() == [image // 10 for image in near.ids[0]]


def test_held_out_images_have_the_classes_of_the_index(tmp_path: Path, dataset: Path) -> None:
    bundle, embedder = Bundle(tmp_path / "bundle"), Embedder(network(), "cpu")
    with closing(bundle.current()) as generation:
        near = of_source(
            generation, open_search(generation), embedder, folder_source(dataset / "val", 32), CLASSES, quiet
        )
    assert near.labels.tolist() == [0, 1, -1]
    assert near.images.tolist() == [0, 2, 3]  # the broken one is the second
    assert (near.ids[0, 0], near.distances.shape) == (3, (3, 24))


def test_a_held_out_image_is_shown_from_its_file_by_the_name_that_the_index_has(tmp_path: Path) -> None:
    file = tmp_path / "n01440764" / "wide.jpg"
    file.parent.mkdir()
    file.write_bytes(encoded(photograph(120, 150), "JPEG"))
    source = folder_source(tmp_path, 32)
    shown = sections.held_out(source, people_names(source.classes))(0)
    assert (shown.name, shown.label) == ("n01440764/wide.jpg", "tench")
    assert Image.open(io.BytesIO(shown.thumbnail)).size == (150, 120)  # not the 32 pixels that the network reads
