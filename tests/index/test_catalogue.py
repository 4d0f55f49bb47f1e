"""What the catalogue returns; its published bytes depend on its rows alone."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from index.catalogue import Catalogue, NoSuchImage
from index.catalogue_writer import CatalogueWriter
from tests.index.blocks import CLASSES, Embedded, block


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return published(tmp_path / "catalogue.sqlite", [block(0, 10), block(10, 50)])


def published(path: Path, blocks: list[Embedded], forgotten: int = 0) -> Catalogue:
    """Record the blocks, the last `forgotten` of them twice: they are forgotten in between."""
    work = path.with_name("work.sqlite")
    work.unlink(missing_ok=True)
    CatalogueWriter.create(work, CLASSES)
    for embedded in blocks:
        writer = CatalogueWriter(work)
        writer.record(embedded)
        writer.close()
    writer = CatalogueWriter(work)
    again = blocks[len(blocks) - forgotten :]
    if again:
        writer.keep(again[0].start)
    for embedded in again:
        writer.record(embedded)
    writer.write_to(path)
    writer.close()
    return Catalogue(path)


def test_an_image_is_told_with_its_label_and_thumbnail(catalogue: Catalogue) -> None:
    image = catalogue.image(8)
    assert (image.image_id, image.name, image.label) == (8, "frog/0008.png", "frog")
    assert image.thumbnail == b"thumbnail 8" * 40
    assert (image.size, image.sha256) == (440, sha256(image.thumbnail).hexdigest())


def test_an_unknown_label_is_none(catalogue: Catalogue) -> None:
    assert catalogue.image(5).label is None
    assert catalogue.labels()[:5].tolist() == [1, 2, 0, 1, -1]


@pytest.mark.parametrize("image_id", [7, 50, -1, 2**62])
def test_skipped_and_unknown_ids_are_no_image(catalogue: Catalogue, image_id: int) -> None:
    with pytest.raises(NoSuchImage, match=f"no image {image_id}"):
        catalogue.image(image_id)


def test_the_ledger_names_each_skipped_image(catalogue: Catalogue) -> None:
    assert [(s.image_id, s.reason) for s in catalogue.skipped()] == [(i, "truncated") for i in range(0, 50, 7)]


def test_random_ids_are_images_all_equally_likely(catalogue: Catalogue) -> None:
    drawn = catalogue.random_ids(np.random.default_rng(0), 4200)
    ids, counts = np.unique(drawn, return_counts=True)
    assert ids.tolist() == [i for i in range(50) if i % 7]
    assert counts.min() > 60
    assert counts.max() < 145
    assert drawn[:20] == catalogue.random_ids(np.random.default_rng(0), 20)


def test_any_thread_may_ask(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: catalogue.image(8).label, range(400)))
    assert set(found) == {"frog"}


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work.sqlite"
    CatalogueWriter.create(work, CLASSES)
    writer = CatalogueWriter(work)
    broken = block(0, 10)
    object.__setattr__(broken, "skipped", ((0, "name", None),))
    with pytest.raises(Exception, match="NOT NULL"):
        writer.record(broken)
    assert (writer.done, len(writer.ids())) == (0, 0)
    writer.record(block(0, 10))
    assert writer.done == 10
    writer.close()


def test_the_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.sqlite", tmp_path / "twice.sqlite"
    blocks = [block(start, start + 10) for start in range(0, 40, 10)]
    published(once, blocks).close()
    published(twice, blocks, forgotten=3).close()
    assert once.read_bytes() == twice.read_bytes()


def test_the_journal_is_one_file_for_all_blocks(tmp_path: Path) -> None:
    work = tmp_path / "work.sqlite"
    CatalogueWriter.create(work, CLASSES)
    writer = CatalogueWriter(work)
    journals = []
    for start in (0, 10):
        writer.record(block(start, start + 10))
        journals.append((tmp_path / "work.sqlite-journal").stat().st_ino)
    writer.close()
    assert journals[0] == journals[1]
