"""Tar shards as a collection: what belongs together, what is named, and what is left of a damaged one."""

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data import shards, tars
from model.data.encoded import EncodedSource
from model.data.folders import open_source
from model.data.packed import BadDataset
from model.data.packing import pack
from model.data.splits import folder_splits
from model.preprocess import stored_image
from tests.dice import dice
from tests.images import encoded, photograph

Member = tuple[str, bytes]


def photo(seed: int) -> bytes:
    return encoded(photograph(30, 40, seed=seed), "JPEG")


def write(path: Path, *members: Member, kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def opened(path: Path) -> EncodedSource:
    source = open_source(path, 8)
    assert isinstance(source, EncodedSource)
    return source


def named(source: EncodedSource) -> list[tuple[str, str | None]]:
    """Name and class of each image."""
    return [(i.name, source.classes[i.label] if i.label >= 0 else None) for i in source.images]


def test_members_of_one_name_are_an_image_and_its_class(tmp_path: Path) -> None:
    first, second = photo(1), photo(2)
    write(
        tmp_path / "a-0001.tar",
        ("0001.jpg", second),
        ("0001.json", json.dumps({"label": 10, "caption": "x"}).encode()),
        ("0001.cls", b"2\n"),
        ("0002.txt", b"frog"),
        ("0002.jpeg", first),
        ("0003.jpg", first),
        ("0003.json", b'{"cls": "10"}'),
        ("sub/0003.png", first),
        ("sub/0003.txt", b"a text about this image alone, " * 10),
        ("0004.cls", b"\xff"),
        ("0004.seg.png", second),
        ("0004.png", first),
        ("__meta__", b"x"),
        ("._0005.jpg", b"x"),
    )
    write(tmp_path / "a-0000.tar", ("0001.jpg", first))
    (tmp_path / "sizes.json").touch()
    source = opened(tmp_path)
    assert source.classes == ("2", "10", "frog")
    assert named(source) == [
        ("a-0000.tar/0001.jpg", None),
        ("a-0001.tar/0001.jpg", "2"),
        ("a-0001.tar/0002.jpeg", "frog"),
        ("a-0001.tar/0003.jpg", "10"),
        ("a-0001.tar/sub/0003.png", None),
        ("a-0001.tar/0004.seg.png", None),
    ]
    assert source.ignored == {".json": 1, ".png": 1, "without a suffix": 1}
    data = [first, second, first, first, first, second]
    for item, wanted in zip(source.read(0, 9, known=()), data, strict=True):
        assert item.content == hashlib.sha256(wanted).hexdigest()
        np.testing.assert_array_equal(item.image, stored_image(wanted, 8))
    assert [i.name for i in opened(tmp_path / "a-0000.tar").images] == ["a-0000.tar/0001.jpg"]


@pytest.mark.parametrize(
    ("suffix", "data", "label"),
    [
        (".json", b"[1]", None),
        (".json", b'{"label": 1.5}', None),
        (".json", b"[" * 60_000, None),
        (".json", b"{", None),
        (".txt", b"two\nlines", None),
        (".txt", b" frog \n", "frog"),
        (".cls", b"", None),
        (".cls", b"7" * 5000, None),
        (".cls", b" " * (shards.MAX_LABEL_BYTES - 1) + b"7", "7"),
        (".cls", b" " * shards.MAX_LABEL_BYTES + b"7", None),
    ],
)
def test_what_names_no_class_leaves_an_image_without(
    tmp_path: Path, suffix: str, data: bytes, label: str | None
) -> None:
    source = opened(write(tmp_path / "a.tar", ("1.jpg", photo(1)), (f"1{suffix}", data)))
    assert named(source) == [("a.tar/1.jpg", label)]


def test_a_name_that_comes_again_is_told_by_its_place(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "a.tar", ("1.jpg", photo(1)), ("2.jpg", photo(2)), ("1.jpg", photo(3))))
    names = [image.name for image in source.images]
    assert names == ["a.tar/1.jpg", "a.tar/2.jpg", f"a.tar/1.jpg (at byte {source.images[2].offset})"]


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (1000, "ends within 3.jpg; the download is not complete"),
        (0, "ends without a tar's end; it may be cut short"),
        (-200, "damaged at byte"),
    ],
)
def test_of_a_shard_cut_short_the_whole_images_are_there_and_the_cut_is_an_item(
    tmp_path: Path, cut: int, reason: str
) -> None:
    whole = write(tmp_path / "b.tar", *((f"{n}.jpg", photo(n)) for n in range(4)))
    write(tmp_path / "c.tar", ("5.jpg", photo(5)))
    last = opened(whole).images[3]
    assert last.length is not None
    os.truncate(whole, {1000: last.offset + 5, 0: last.offset - 512, -200: last.offset - 512 + 200}[cut])
    source = opened(tmp_path)
    items = source.read(0, 9)
    assert [item.name for item in items] == ["b.tar/0.jpg", "b.tar/1.jpg", "b.tar/2.jpg", "b.tar", "c.tar/5.jpg"]
    assert [item.image is None for item in items] == [False, False, False, True, False]
    assert str(items[3].skipped).startswith(reason)


@pytest.mark.parametrize("damage", [b"", b"no tar" * 500, b"\x1f\x8b compressed" * 100])
def test_what_is_no_tar_is_an_item_or_refused_where_nothing_is_left(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(damage)
    with pytest.raises(BadDataset, match=r"no images in its tars; b\.tar: not a whole archive"):
        opened(tmp_path)
    write(tmp_path / "a.tar", ("1.jpg", photo(1)))
    assert [item.skipped is None for item in opened(tmp_path).read(0, 9)] == [True, False]


def test_a_shard_that_goes_away_while_it_is_listed_is_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / "a.tar", ("1.jpg", photo(1))), tmp_path / "b.tar"]
    monkeypatch.setattr("model.data.folders.shards_at", lambda _: (paths, Counter()))
    assert [item.skipped for item in opened(tmp_path).read(0, 9)] == [None, "No such file or directory"]


def test_a_pipe_called_tar_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ("1.jpg", photo(1)))
    os.mkfifo(tmp_path / "b.tar")
    assert [item.skipped for item in opened(tmp_path).read(0, 9)] == [
        None,
        "not a whole archive (not an ordinary file)",
    ]


def special(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """A tar of what are no files: name, type and where a link leads; and a last file."""
    with tarfile.open(path, "w") as tar:
        for name, kind, target in members:
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, target
            tar.addfile(about)
        last = tarfile.TarInfo("last.jpg")
        last.size = len(photo(1))
        tar.addfile(last, io.BytesIO(photo(1)))
    return path


def test_links_in_a_tar_are_items_without_an_image_and_folders_are_none(tmp_path: Path) -> None:
    hard = ("2.jpg", tarfile.LNKTYPE, "last.jpg")
    soft = ("3.jpg", tarfile.SYMTYPE, "/etc/\x1b[2Jpasswd")
    others = [("4.jpg", tarfile.CHRTYPE, ""), ("5.cls", tarfile.SYMTYPE, "x"), ("dir.jpg", tarfile.DIRTYPE, "")]
    source = opened(special(tmp_path / "a.tar", hard, soft, *others))
    assert [(item.name, item.skipped) for item in source.read(0, 9, known=())] == [
        ("a.tar/2.jpg", "a link to last.jpg; links in a tar are not followed"),
        ("a.tar/3.jpg", "a link to /etc/\\x1b[2Jpasswd; links in a tar are not followed"),
        ("a.tar/4.jpg", "not an ordinary file"),
        ("a.tar/last.jpg", None),
    ]
    assert source.ignored == {".cls": 1}


def test_a_reason_is_one_printable_line_of_text(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tar", ("1.jpg", photo(1)), ("\udcff\x1b[2J.jpg", photo(2)))
    os.truncate(whole, opened(whole).images[1].offset + 5)
    assert opened(whole).read(1, 2)[0].skipped == "ends within \\xff\\x1b[2J.jpg; the download is not complete"


def header(name: str, kind: bytes, *values: tuple[int, bytes]) -> bytes:
    """A header with these bytes at these places, whose sum is right."""
    about = tarfile.TarInfo(name)
    about.type = kind
    block = bytearray(about.tobuf(tarfile.GNU_FORMAT))
    for place, value in values:
        block[place : place + len(value)] = value
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(b" " * 8) + sum(block[156:]))
    return bytes(block)


def test_a_sparse_file_is_told_because_its_holes_are_not_in_the_tar(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tar", ("1.jpg", photo(1)), ("2.jpg", bytes(600)))
    data = bytearray(whole.read_bytes())
    parts, size = b"00000000000\0" + b"00000001130\0", b"00004553207\0"  # 600 bytes; the whole has more than the tar
    block = header("2.jpg", tarfile.GNUTYPE_SPARSE, (124, b"00000001130\0"), (386, parts), (483, size))
    at = opened(whole).images[1].offset - 512
    data[at : at + 512] = block
    whole.write_bytes(data)
    assert [item.skipped for item in opened(whole).read(0, 9)] == [
        None,
        "2.jpg is a sparse file; make the tar without --sparse",
    ]


def test_a_list_of_a_sparse_files_parts_that_is_cut_short_is_an_item(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tar", ("1.jpg", photo(1)))
    os.truncate(whole, opened(whole).images[0].offset + -(-len(photo(1)) // 512) * 512)
    with whole.open("ab") as file:
        file.write(header("2.jpg", tarfile.GNUTYPE_SPARSE, (482, b"\1")))
    assert "not a whole archive" in str(opened(whole).read(1, 2)[0].skipped)


def test_a_size_beyond_all_files_is_an_error_of_the_archives(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(header("1.jpg", b"Z", (124, b"\x80\0\1" + bytes(9))) + bytes(1024))
    with pytest.raises(BadDataset, match="not a whole archive"), tars.archive_errors(file), tarfile.open(file) as tar:
        list(tars.members(tar))


def test_members_are_forgotten_when_they_are_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.tar", *((f"{n}.jpg", b"x") for n in range(50)))
    kept, really = list[int](), tarfile.TarFile.next

    def counted(tar: Any) -> tarfile.TarInfo | None:
        kept.append(len(tar.members))
        return really(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    assert len(opened(tmp_path).images) == 50
    assert max(kept) <= 1


def test_states_are_others_when_their_shard_has_changed(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", ("1.jpg", photo(1)))
    changing = write(tmp_path / "b.tar", ("1.jpg", photo(2)), ("2.jpg", photo(3)))
    before = list(opened(tmp_path).entries())
    assert list(opened(tmp_path).entries()) == before
    os.utime(changing, ns=(0, 5))
    after = list(opened(tmp_path).entries())
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_a_folder_is_of_shards_when_it_has_neither_folders_nor_images(tmp_path: Path) -> None:
    tar = write(tmp_path / "a.TAR", ("1.jpg", photo(1)))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "00000.parquet").touch()
    assert shards.shards_at(tmp_path) == ([tar], {".parquet": 1})
    (tmp_path / "x.jpg").touch()
    assert shards.shards_at(tmp_path) is None
    (tmp_path / "x.jpg").unlink()
    (tmp_path / "folder").mkdir()
    assert shards.shards_at(tmp_path) is None
    assert shards.shards_at(tmp_path / "folder") is None
    assert shards.shards_at(tmp_path / "nowhere.tar") is None


def test_shards_can_be_packed_train_and_val(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 2)):
        members = [m for n in range(count) for m in ((f"{n}.jpg", photo(n)), (f"{n}.cls", b"%d" % (n % 2)))]
        write(tmp_path / "images" / split / "0.tar", *members)
    packed = pack(tmp_path / "packed", folder_splits(tmp_path / "images", 8, 0.1))
    assert (packed.classes, len(packed.split("train")), len(packed.split("val"))) == (("0", "1"), 6, 2)
    write(tmp_path / "images" / "val" / "1.tar", ("1.jpg", photo(1)), ("1.cls", b"2"))
    with pytest.raises(BadDataset, match="val: classes that the training images do not have: 2"):
        folder_splits(tmp_path / "images", 8, 0.1)


def test_there_are_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tar", "b.tar"):
        write(tmp_path / name, *((f"{n}.jpg", photo(n)) for n in range(3)))
    with monkeypatch.context() as few:
        few.setattr(shards, "MAX_SHARDS", 1)
        with pytest.raises(BadDataset, match="more than 1 shards"):
            opened(tmp_path)
    monkeypatch.setattr(shards, "MAX_MEMBERS", 2)
    items = opened(tmp_path / "a.tar").read(0, 9)
    assert [item.skipped for item in items] == [None, None, "more than 2 members; the rest is left out"]


def test_a_long_header_is_not_read_and_neither_is_a_long_chain_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [("1.jpg", photo(1)), ("x" * 3000 + ".jpg", photo(2))]
    write(tmp_path / "long.tar", *members, kind=tarfile.GNU_FORMAT)
    assert len(opened(tmp_path).images) == 2
    monkeypatch.setattr(tars, "MAX_HEADER", 2048)
    assert "a header of 3,072 bytes" in str(opened(tmp_path).read(1, 2)[0].skipped)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 512
    chain = (header.tobuf(tarfile.USTAR_FORMAT) + b"11 path=xx\n".ljust(512, b"\0")) * 3000
    whole = write(tmp_path / "long.tar", members[0])
    data = whole.read_bytes()
    whole.write_bytes(data[: data.rindex(b"\xff\xd9") // 512 * 512 + 512] + chain)
    assert "not a whole archive" in str(opened(tmp_path).read(1, 2)[0].skipped)


def test_a_number_that_is_none_is_an_item(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"))
        sparse = tarfile.TarInfo("2.jpg")
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
        sparse.size = 512
        tar.addfile(sparse, io.BytesIO(b"many\n".ljust(512)))
    assert "not a whole archive" in str(opened(tmp_path).read(1, 2)[0].skipped)


def test_random_damage_is_an_item_or_refused(tmp_path: Path) -> None:
    rng = dice()
    whole = write(
        tmp_path / "a.tar",
        ("1.jpg", b"x" * 700),
        ("n" * 200 + ".jpg", b"y"),
        ("3.cls", b"1"),
        ("3.jpg", b"z"),
        kind=tarfile.PAX_FORMAT,
    ).read_bytes()
    for _ in range(300):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(1, 6)):
            if damaged:
                damaged[rng.randrange(min(len(damaged), 6000))] = rng.choice([0, 0x30, 0x37, 0x80, 0xFF, 0x78, 0x53])
        (tmp_path / "a.tar").write_bytes(damaged)
        with contextlib.suppress(BadDataset):
            opened(tmp_path).read(0, 99, known=())
