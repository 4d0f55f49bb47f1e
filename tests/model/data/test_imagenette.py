"""Imagenette from each of its forms, and from its home; and what is said of everything else."""

import errno
import gzip
import hashlib
import io
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import files
from model.data import imagenette
from model.data.download import Digest, DownloadFailed, Published
from model.data.folders import folder_source
from model.data.imagenette import PUBLISHED, WNIDS, fetch
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from tests.homes import Home, direct, serving
from tests.images import encoded, photograph
from tests.model.data.ilsvrc_archives import tar

__all__ = ["direct"]

NAMES = (
    *("tench", "English springer", "cassette player", "chain saw", "church"),
    *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
)


def members(train: int = 3, val: int = 1, top: str = "imagenette2-160/") -> dict[str, bytes]:
    """The published archive's files, `train` and `val` images of each class, and what else lies among them."""
    images = {
        f"{top}{split}/{wnid}/{wnid}_{number}.JPEG": encoded(photograph(20, 24, seed=100 * label + number), "JPEG")
        for label, wnid in enumerate(WNIDS)
        for split, count in (("val", val), ("train", train))
        for number in reversed(range(count))  # in no order, as tars may be
    }
    others = ("noisy_imagenette.csv", "train/.DS_Store", f"train/{WNIDS[0]}/._{WNIDS[0]}_0.JPEG")
    return {**{f"{top}{name}": b"..." for name in others}, **images}


def obtained(
    out: Path, source: Path | None, cache: Path = Path("nowhere"), published: Published = PUBLISHED
) -> PackedSet:
    return fetch(out, source, cache, lambda *_: None, lambda *_: None, published)


def at_home(home: Home, content: bytes) -> Published:
    return Published((home.url("i.tgz"),), Digest("md5", hashlib.md5(content).hexdigest()), limit=len(content))


@pytest.mark.parametrize(("train", "val", "rows"), [(3, 1, (30, 10)), (4, 0, (31, 9))])
def test_every_form_is_the_same_dataset(tmp_path: Path, train: int, val: int, rows: tuple[int, int]) -> None:
    """Without a val of its own, the same images are held out."""
    contents = members(train, val)
    (tmp_path / "archive").mkdir()
    (tmp_path / "plain.tar").write_bytes(tar(contents))
    (tmp_path / "archive" / "imagenette2-160.tgz").write_bytes(tar(contents, "w:gz"))
    for name, data in contents.items():
        (tmp_path / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / name).write_bytes(data)
    places = ["plain.tar", "archive/imagenette2-160.tgz", "archive", "unpacked", "unpacked/imagenette2-160"]
    packed = [obtained(tmp_path / "out" / str(number), tmp_path / place) for number, place in enumerate(places)]
    assert len({one.fingerprint for one in packed}) == 1
    assert (packed[0].classes, packed[0].size, packed[0].splits) == (NAMES, 128, ("train", "val"))
    splits = [packed[0].split(name) for name in ("train", "val")]
    assert tuple(map(len, splits)) == rows
    for split in splits:
        assert [WNIDS[label] for label in split.labels] == [name.partition("/")[0] for name in split.names]
        assert split.skipped == ()
    again = obtained(tmp_path / "out" / "1", tmp_path / places[1])  # where the first's temporary copy lay says nothing
    assert again.fingerprint == packed[0].fingerprint


@pytest.mark.usefixtures("direct")
def test_it_is_downloaded_once_and_a_cut_download_is_continued(tmp_path: Path) -> None:
    content = tar(members(), "w:gz")
    with serving(Home({"i.tgz": content}, cut=len(content) // 2 + 1)) as home:
        first = obtained(tmp_path / "1", None, tmp_path / "cache", at_home(home, content))
        assert len(home.asked) == 2
        again = obtained(tmp_path / "2", None, tmp_path / "cache", at_home(home, content))
        assert len(home.asked) == 2
    assert first.fingerprint == again.fingerprint
    (tmp_path / "cache" / "imagenette2-160.tgz").unlink()
    assert obtained(tmp_path / "1", None, tmp_path / "cache").fingerprint == first.fingerprint  # it is packed already


@pytest.mark.usefixtures("direct")
def test_another_file_at_its_home_is_refused(tmp_path: Path) -> None:
    content = tar(members(), "w:gz")
    with serving(Home({"i.tgz": content})) as home:
        wrong = replace(at_home(home, content), digest=PUBLISHED.digest)
        with pytest.raises(
            DownloadFailed, match=r"not the published file \(md5 e79.*: give imagenette2-160.tgz with --so"
        ):
            obtained(tmp_path / "out", None, tmp_path / "cache", wrong)
    assert not (tmp_path / "out").exists()


def test_a_path_within_an_archive_is_never_written_to(tmp_path: Path) -> None:
    """Links and devices of an archive are left out; a name that leads elsewhere is a name."""
    odd = {f"train/{WNIDS[0]}/two\nlines.JPEG": encoded(photograph(20, 24), "JPEG")}
    out = io.BytesIO(tar({f"../../{name}": data for name, data in {**members(top=""), **odd}.items()}))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"/train/{WNIDS[0]}/{kind!r}.JPEG")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.tar").write_bytes(out.getvalue())
    packed = obtained(tmp_path / "deep" / "er" / "out", tmp_path / "deep" / "er" / "a.tar")
    assert [len(packed.split(name)) for name in packed.splits] == [31, 10]
    assert f"{WNIDS[0]}/two\\nlines.JPEG" in packed.split("train").names
    assert {path.name for path in tmp_path.rglob("*") if "out" not in path.parts} == {"deep", "er", "a.tar"}


WHOLE = tar(members())
LAST = WHOLE.rstrip(b"\0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAST[:-200], "ends within imagenette2-160/"),
        (WHOLE[: -(-len(LAST) // 512) * 512], "without a tar's end; the download is not complete"),
        (gzip.compress(WHOLE)[:-2000], "not a whole archive"),
        (gzip.compress(WHOLE[:-9] + b"x" * 9), "without a tar's end"),
        (b"<html>log in</html>" * 99, "not a whole archive"),
        (b"", "not a whole archive"),
        (tar({"cifar-10-batches-py/data_batch_1": b"..."}, "w:gz"), "not Imagenette: no training images of 10 of its"),
        (tar({k: v for k, v in members().items() if WNIDS[3] not in k}), "no training images of 1 of its ten classes"),
        (tar(members(train=0)), "no training images of 10 of its ten classes"),
    ],
    ids=["cut", "cut between files", "cut tgz", "no end", "page", "empty", "another", "nine classes", "val alone"],
)
def test_what_is_not_the_whole_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(BadDataset, match=f"a.tgz: .*{message}"):
        obtained(tmp_path / "out", tmp_path / "a.tgz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", len(WHOLE) - 1), ("MAX_FILES", 42)])
def test_an_archive_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    (tmp_path / "a.tgz").write_bytes(gzip.compress(WHOLE))
    monkeypatch.setattr(imagenette, limit, value)
    with pytest.raises(BadDataset, match=f"more than {value:,} (bytes|files): not Imagenette"):
        obtained(tmp_path / "out", tmp_path / "a.tgz")
    monkeypatch.setattr(imagenette, limit, value + 1)
    obtained(tmp_path / "out", tmp_path / "a.tgz")


def test_a_full_disk_is_told_of_the_temporary_files_not_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "a.tgz").write_bytes(gzip.compress(WHOLE))
    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(BadDataset, match=f"^{tempfile.gettempdir()}/.*imagenette.tar: no space left on the disk"):
        obtained(tmp_path / "out", tmp_path / "a.tgz")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="mine: neither Imagenette's archive nor its folder train is there"):
        obtained(tmp_path / "out", tmp_path / "mine")
    for folder in (WNIDS[0], "cats"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        (tmp_path / "mine" / folder / "1.jpg").write_bytes(encoded(photograph(), "JPEG"))
    with pytest.raises(BadDataset, match="mine: not Imagenette's ten folders; cats, n02102040, n02979186 makes"):
        obtained(tmp_path / "out", tmp_path / "mine")


def test_a_place_that_holds_another_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(WHOLE)
    (tmp_path / "b.tar").write_bytes(tar(members(train=2)))
    first = obtained(tmp_path / "out", tmp_path / "a.tar")
    with pytest.raises(BadDataset, match="already holds a dataset of something else"):
        obtained(tmp_path / "out", tmp_path / "b.tar")
    assert PackedSet.open(tmp_path / "out").fingerprint == first.fingerprint


def test_a_place_that_holds_something_else_is_refused_before_a_download(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.jpg").write_bytes(encoded(photograph(), "JPEG"))
    pack(tmp_path / "out", {"train": folder_source(tmp_path, 128)})
    with pytest.raises(BadDataset, match="out: holds a dataset of something else; remove it or choose another place"):
        obtained(tmp_path / "out", None)
