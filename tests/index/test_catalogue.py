"""What the catalogue returns; its published bytes depend on its rows alone."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from index import Generation, NoSuchImage, Skipped
from index.catalogue import Catalogue, Named
from index.manifest import BadBundle
from index.work import Work
from tests.index.blocks import SOURCE, File, Files, block, build, collection


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    (tmp_path / "checkpoint").touch()
    return build(tmp_path / "bundle", tmp_path / "checkpoint", collection(50))


@pytest.fixture
def catalogue(generation: Generation) -> Catalogue:
    return generation.catalogue


def test_an_image_is_told_with_its_label_and_thumbnail(catalogue: Catalogue) -> None:
    image = catalogue.image(8)
    assert (image.image_id, image.name, image.names, image.label) == (8, "frog/0008.png", ("frog/0008.png",), "frog")
    assert image.thumbnail == b"thumbnail of image 8" * 40
    assert (image.size, image.sha256) == (800, sha256(image.thumbnail).hexdigest())
    assert image.content == sha256(b"image 8").hexdigest()


def test_images_are_found_by_their_contents(catalogue: Catalogue) -> None:
    known, unknown = sha256(b"image 8").hexdigest(), sha256(b"image 7").hexdigest()  # 7 could not be read
    assert catalogue.ids_of([known, unknown]) == {known: 8}
    assert catalogue.ids_of([]) == {}


def test_an_unknown_label_is_none(catalogue: Catalogue) -> None:
    assert catalogue.image(5).label is None
    assert catalogue.labels()[:5].tolist() == [1, 2, 0, 1, -1]


@pytest.mark.parametrize("image_id", [7, 50, -1, 2**62])
def test_skipped_and_unknown_ids_are_no_image(catalogue: Catalogue, image_id: int) -> None:
    with pytest.raises(NoSuchImage, match=f"no image {image_id}"):
        catalogue.image(image_id)


def test_each_skipped_image_is_named(catalogue: Catalogue) -> None:
    names = [f"{('cat', 'dog', 'frog')[i % 3]}/{i:04}.png" for i in range(0, 50, 7)]
    assert catalogue.skipped() == [Skipped(SOURCE, name, "truncated") for name in names]


def test_every_input_has_a_row_in_order(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.catalogue.PAGE", 20)
    rows = list(catalogue.names(SOURCE))
    assert [row.name for row in rows] == [file.name for file in collection(50).files]
    assert rows[7] == Named("dog/0007.png", "dog", "0 0", "skipped", None, "truncated")
    assert rows[8] == Named("frog/0008.png", "frog", "7 0", "indexed", 8, None)
    assert list(catalogue.names("elsewhere")) == []
    assert catalogue.sources() == [SOURCE]


def test_an_image_with_several_names_has_all_of_them_and_the_label_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").touch()
    files = Files([File("a", "x", 1), File("b", "y"), File("c", "x", 2)])
    generation = build(tmp_path / "bundle", tmp_path / "checkpoint", files)
    image = generation.catalogue.image(0)
    assert (image.name, image.names, image.label) == ("a", ("a", "c"), "dog")
    assert generation.catalogue.duplicates() == [(0, ("a", "c"))]
    assert generation.catalogue.labels().tolist() == [1, -1]


def test_any_thread_may_ask(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: catalogue.image(8).label, range(400)))
    assert set(found) == {"frog"}


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    Work.create(tmp_path / "work.sqlite")
    work, broken = Work(tmp_path / "work.sqlite"), block(0, 10)
    object.__setattr__(broken, "entries", (*broken.entries[:-1], broken.entries[8]))
    with pytest.raises(BadBundle, match="images 0 to 10: two of this build have the same"):
        work.record(broken)
    assert (work.done, work.rows) == (0, 0)
    work.record(block(0, 10))
    assert work.done == 10
    work.close()


def test_the_journal_is_one_file_for_all_blocks(tmp_path: Path) -> None:
    Work.create(tmp_path / "work.sqlite")
    work, journals = Work(tmp_path / "work.sqlite"), []
    for start in (0, 10):
        work.record(collection().block(start, start + 10, set()))
        journals.append((tmp_path / "work.sqlite-journal").stat().st_ino)
    work.close()
    assert journals[0] == journals[1]
