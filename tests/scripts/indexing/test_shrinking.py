"""What is taken out of a bundle stays out, and nothing that is still there goes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from index import BadBundle, Bundle
from scripts.build_index import Config, job
from scripts.command import Refused
from tests.scripts.indexing.runs import names, photo, said

pytestmark = pytest.mark.timeout(60)


def test_files_that_are_gone_are_taken_out_of_all_that_was_added(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job(config)
    photo(tmp_path / "more" / "7.png", 7)
    photo(tmp_path / "more" / "8.png", 8)
    job(Config(bundle=config.bundle, device="cpu", add=tmp_path / "more"))
    missing = Config(bundle=config.bundle, missing=True)
    capsys.readouterr()
    assert said(missing, capsys)[0].endswith("generation 2 misses no file: nothing to do")
    (tmp_path / "more" / "7.png").unlink()
    (config.images / "0.png").unlink()
    photo(config.images / "new.png", 9)
    assert said(missing, capsys)[1] == "2 images removed, 0 renamed"
    assert list(names(config.bundle).values()) == [("1.png",), ("2.png",), ("8.png",)]
    (tmp_path / "more").rename(tmp_path / "elsewhere")
    assert (
        said(missing, capsys)[0]
        == f"{tmp_path / 'more'}: not there any more; its 1 names go (--rollback brings them back)"
    )
    assert list(names(config.bundle).values()) == [("1.png",), ("2.png",)]


def test_a_folder_that_is_empty_now_loses_nothing(config: Config) -> None:
    job(config)
    for file in config.images.iterdir():
        file.unlink()
    with pytest.raises(Refused, match=r"no images in it; .*; none of its 3 names is dropped: they go when .* is gone"):
        job(Config(bundle=config.bundle, missing=True))
    assert len(names(config.bundle)) == 3


def test_a_lists_row_whose_file_is_gone_is_missing(config: Config, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,id\nimages/0.png,a\nimages/1.png,b\nimages/9.png,c\n")
    job(replace(config, images=tmp_path / "list.csv"))
    (config.images / "1.png").unlink()
    job(Config(bundle=config.bundle, missing=True))
    assert names(config.bundle) == {0: ("a",)}


def test_images_removed_by_id_stay_out_until_their_file_changes(config: Config) -> None:
    job(config)
    job(Config(bundle=config.bundle, remove=(0, 2)))
    assert names(config.bundle) == {1: ("1.png",)}
    job(config)
    assert names(config.bundle) == {1: ("1.png",)}
    os.utime(config.images / "2.png", ns=(0, 5))
    job(config)
    assert list(names(config.bundle).values()) == [("1.png",), ("2.png",)]
    assert 2 not in names(config.bundle)  # an id is given once


def test_an_id_that_is_not_there_removes_nothing(config: Config) -> None:
    job(config)
    with pytest.raises(BadBundle, match="no image 7, 9 in this collection; nothing is removed"):
        job(Config(bundle=config.bundle, remove=(0, 7, 9)))
    assert Bundle(config.bundle).current().number == 1
