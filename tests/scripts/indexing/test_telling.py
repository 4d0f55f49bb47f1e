"""Lines and reports say what became of every input."""

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from index import BadBundle, Bundle
from scripts.build_index import Config, job
from scripts.command import Refused
from tests.scripts.indexing.runs import photo, said

pytestmark = pytest.mark.timeout(60)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_a_report_has_a_row_for_every_input_and_adds_up(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo(config.images / "copy.png", 1)
    (config.images / 'broken, "1".png').write_bytes(b"no image")
    reporting = replace(config, report=tmp_path / "report.csv")
    assert said(reporting, capsys)[-1] == f"{tmp_path / 'report.csv'}: 5 rows"
    source = str(config.images.resolve())
    first = rows(tmp_path / "report.csv")
    assert [(row["name"], row["outcome"], row["image_id"]) for row in first] == [
        ("0.png", "indexed", "0"),
        ("1.png", "indexed", "1"),
        ("2.png", "indexed", "2"),
        ('broken, "1".png', "skipped", ""),
        ("copy.png", "duplicate", "1"),
    ]
    assert {row["source"] for row in first} == {source}
    assert first[3]["reason"].startswith("not an image")
    ledger = dict(Bundle(config.bundle).current().manifest.ledger)
    counted = Counter(row["outcome"] for row in first)
    assert {outcome: ledger[outcome] for outcome in counted} == counted
    assert ledger["inputs"] == 5 == sum(ledger[o] for o in ("indexed", "duplicate", "skipped", "kept", "excluded"))
    (config.images / "0.png").unlink()
    (config.images / "2.png").rename(config.images / "3.png")
    job(reporting)
    assert [(row["name"], row["outcome"]) for row in rows(tmp_path / "report.csv")] == [
        ("1.png", "kept"),
        ('broken, "1".png', "skipped"),
        ("copy.png", "kept"),
        ("3.png", "kept"),
        ("0.png", "removed"),
        ("2.png", "renamed"),
    ]


def test_a_folders_path_need_not_be_text(config: Config, tmp_path: Path) -> None:
    images = config.images.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")))
    job(replace(config, images=images, report=tmp_path / "report.csv"))
    assert (tmp_path / "report.csv").read_bytes().splitlines()[1] == os.fsencode(images) + b",0.png,indexed,0,"


def test_a_report_of_an_added_folder_is_about_that_folder(config: Config, tmp_path: Path) -> None:
    job(config)
    photo(tmp_path / "more" / "7.png", 7)
    job(Config(bundle=config.bundle, device="cpu", add=tmp_path / "more", report=tmp_path / "report.csv"))
    assert [row["name"] for row in rows(tmp_path / "report.csv")] == ["7.png"]
    job(Config(bundle=config.bundle, list=True, report=tmp_path / "report.csv"))
    assert [row["name"] for row in rows(tmp_path / "report.csv")] == ["0.png", "1.png", "2.png", "7.png"]


def test_generations_are_listed_gone_back_to_checked_and_deleted(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    job(config)
    photo(config.images / "new.png", 9)
    job(config)
    capsys.readouterr()
    first, second, source, *_ = said(Config(bundle=config.bundle, list=True), capsys)
    assert first.startswith("generation 1: 3 images, 20")
    assert second.startswith("generation 2: 4 images, 20")
    assert (first.endswith(", current"), second.endswith(", current")) == (False, True)
    assert source == f"  {config.images.resolve()}: 4 names"
    lines = said(Config(bundle=config.bundle, rollback=True), capsys)
    assert lines == [f"{config.bundle}: generation 1 is current again", "3 images indexed, 0 skipped, 12 numbers each"]
    assert said(Config(bundle=config.bundle, verify=True), capsys)[0].endswith(
        "1 is as it was published, every file of it"
    )
    assert said(Config(bundle=config.bundle, prune=True), capsys)[0].endswith("1 is kept, 1 others are deleted")
    assert [one.number for one in Bundle(config.bundle).generations()] == [1]


def test_verify_reads_every_byte(config: Config) -> None:
    job(config)
    file = config.bundle / "generations/0001/segments/0001/features.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadBundle, match=r"features\.npy: not the file that was published"):
        job(Config(bundle=config.bundle, verify=True))


def test_a_damaged_generation_is_listed_and_can_be_gone_back_from(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    job(config)
    photo(config.images / "new.png", 9)
    job(config)
    (config.bundle / "generations" / "0002" / "catalogue.sqlite").unlink()
    capsys.readouterr()
    with pytest.raises(BadBundle, match=r"catalogue\.sqlite: missing"):
        job(Config(bundle=config.bundle, list=True))
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert "generation 1 is current again" in said(Config(bundle=config.bundle, rollback=True), capsys)[0]


def test_a_report_that_cannot_be_written_is_refused_before_the_work(config: Config, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "report.csv"):
        with pytest.raises(Refused, match=f"--report {place}: not a file in a folder that is there"):
            job(replace(config, report=place))
    assert not config.bundle.exists()
