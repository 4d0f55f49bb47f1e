"""The ILSVRC archives in their exact layout, small: labels through the kit's own synsets, images read in place."""

import gzip
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from model.data import ilsvrc, matfile
from model.data.ilsvrc import ilsvrc_sources, read_devkit
from model.data.matfile import read_mat
from model.data.packed import BadDataset, PackedSet
from model.data.packing import pack
from model.data.splits import shuffled
from model.preprocess import stored_image
from tests.model.data.ilsvrc_archives import META, TRUTH, WNIDS, Archives, jpeg, kit, make_archives, tar


@pytest.fixture
def archives(tmp_path: Path) -> Archives:
    return make_archives(tmp_path)


def test_the_kits_ids_are_mapped_by_its_synsets_not_by_sorting(archives: Archives) -> None:
    found = read_devkit(archives[2])
    assert found.wnids == ("n01440764", "n02012849", "n02119789", "n03126707")
    assert found.names == ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
    assert [found.wnids[label] for label in found.truth] == [WNIDS[ilsvrc] for ilsvrc in TRUTH]


def test_images_are_read_where_they_lie(archives: Archives) -> None:
    splits = ilsvrc_sources(*archives, size=24)
    train, val = splits["train"].read(0, 99), splits["val"].read(0, 99)
    assert [item.name for item in train] == [f"{w}/{w}_{n}.JPEG" for w in sorted(WNIDS.values()) for n in range(3)]
    numbers = {wnid: ilsvrc for ilsvrc, wnid in WNIDS.items()}
    for item in train:
        wnid, number = item.name[:9], int(item.name[-6])
        assert sorted(WNIDS.values())[item.label] == wnid
        np.testing.assert_array_equal(item.image, stored_image(jpeg(10 * numbers[wnid] + number), 24))
    assert [item.name for item in val] == [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 6)]
    for number, item in enumerate(val, start=1):
        assert sorted(WNIDS.values())[item.label] == WNIDS[TRUTH[number - 1]]
        np.testing.assert_array_equal(item.image, stored_image(jpeg(number), 24))


def test_they_are_packed_like_any_other_collection(archives: Archives, tmp_path: Path) -> None:
    splits = ilsvrc_sources(*archives, size=24)
    pack(tmp_path / "set", {**splits, "train": shuffled(splits["train"])}, encoding="jpeg")
    packed = PackedSet.open(tmp_path / "set")
    assert (len(packed.split("train")), len(packed.split("val"))) == (12, 5)
    assert packed.classes == read_devkit(archives[2]).names
    for name, label in zip(packed.split("train").names, packed.split("train").labels, strict=True):
        assert sorted(WNIDS.values())[label] == name[:9]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_partial_download_is_refused_by_name(archives: Archives, which: int) -> None:
    whole = archives[which].read_bytes()
    end = len(whole.rstrip(b"\0"))  # a tar is padded beyond its last file
    for keep in (0, 100, end // 2, *(range(512, end, 512) if which < 2 else ())):  # between two files, too
        archives[which].write_bytes(whole[:keep])
        with pytest.raises(BadDataset, match=archives[which].name):
            ilsvrc_sources(*archives, size=24)
    archives[which].unlink()
    with pytest.raises(BadDataset, match=f"{archives[which].name}: No such file"):
        ilsvrc_sources(*archives, size=24)


def test_reading_the_headers_reports_how_far_it_is(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilsvrc, "MEGABYTE", 512)
    told: list[tuple[str, int, int]] = []
    ilsvrc_sources(*archives, size=24, report=lambda *row: told.append(row))
    for archive, members in ((archives[0], 4), (archives[1], 5)):
        total = archive.stat().st_size // 512
        done = [row[1] for row in told if row[0] == archive.name and row[2] == total]
        assert len(done) == members + 1
        assert done == sorted(set(done))
        assert done[-1] == total
    monkeypatch.undo()
    told.clear()
    ilsvrc_sources(*archives, size=24, report=lambda *row: told.append(row))
    assert told == []  # less than a megabyte each


def header(name: str, size: int) -> bytes:
    about = tarfile.TarInfo(name)
    about.size = size
    return about.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["train", "validation", "kit"])
def test_a_member_that_leads_back_is_not_followed_for_ever(archives: Archives, which: int) -> None:
    """A negative size puts the next header before this one."""
    name = ("n01440764.tar", "ILSVRC2012_val_00000001.JPEG", "data/meta.mat")[which]
    whole = header(name, 0) + header(name, -512) + bytes(10240)
    archives[which].write_bytes(gzip.compress(whole) if which == 2 else whole)
    # A newer Python ends a compressed archive there, so that a file of the kit is missing.
    complaint = "(damaged at byte 512|no data/ILSVRC2012)" if which == 2 else "damaged at byte 512"
    with pytest.raises(BadDataset, match=f"{archives[which].name}: .*{complaint}"):
        ilsvrc_sources(*archives, size=24)


def test_a_damaged_header_within_a_class_is_no_silent_end(archives: Archives) -> None:
    whole = archives[0].read_bytes()
    at = whole.index(b"n01440764_1.JPEG")
    archives[0].write_bytes(whole[:at] + b"X" * 512 + whole[at + 512 :])
    with pytest.raises(BadDataset, match=f"train.tar: damaged at byte {at:,}"):
        ilsvrc_sources(*archives, size=24)


def test_a_class_ends_where_its_archive_ends_with_or_without_a_mark(archives: Archives) -> None:
    """Without its end mark, the first class's archive must not run on into the second's."""
    inner = {f"{wnid}.tar": tar({f"{wnid}_0.JPEG": jpeg(0)}) for wnid in sorted(WNIDS.values())}
    first = min(inner)
    end = len(inner[first].rstrip(b"\0"))
    inner[first] = inner[first][: end + -end % 512]
    archives[0].write_bytes(tar(inner))
    train = ilsvrc_sources(*archives, size=24)["train"]
    assert [image.name for image in train.images] == [f"{wnid}/{wnid}_0.JPEG" for wnid in sorted(WNIDS.values())]


def test_strange_names_stay_one_line_each(archives: Archives, tmp_path: Path) -> None:
    inner = {f"{wnid}.tar": tar({"two\nlines.JPEG": jpeg(0), "\udcff.JPEG": jpeg(1)}) for wnid in WNIDS.values()}
    archives[0].write_bytes(tar(inner))
    packed = pack(tmp_path / "set", ilsvrc_sources(*archives, size=24))
    assert list(packed.split("train").names[:2]) == ["n02119789/two\\nlines.JPEG", "n02119789/\\xff.JPEG"]


def test_archives_in_each_others_place_are_refused(archives: Archives) -> None:
    train, val, devkit = archives
    with pytest.raises(BadDataset, match="is not the archive of a class of the kit"):
        ilsvrc_sources(val, val, devkit, 24)
    with pytest.raises(BadDataset, match=r"no ground truth for n01440764\.tar"):
        ilsvrc_sources(train, train, devkit, 24)
    with pytest.raises(BadDataset, match=r"no data/meta\.mat in it"):
        ilsvrc_sources(train, val, val, 24)


def test_a_kit_that_contradicts_itself_is_refused(archives: Archives) -> None:
    for data in (kit(META.read_bytes(), "4\n9\n"), kit(META.read_bytes(), "cat\n")):
        archives[2].write_bytes(data)
        with pytest.raises(BadDataset, match="do not fit together"):
            read_devkit(archives[2])
    archives[2].write_bytes(kit(META.read_bytes(), "4\n"))
    with pytest.raises(BadDataset, match="no ground truth for ILSVRC2012_val"):
        ilsvrc_sources(*archives, size=24)
    archives[2].write_bytes(kit(META.read_bytes(), "4\n" * 6))
    with pytest.raises(BadDataset, match="5 images where the kit has the truth of 6"):
        ilsvrc_sources(*archives, size=24)


def test_a_matlab_file_is_read_as_it_was_written() -> None:
    synsets = read_mat(META.read_bytes())["synsets"]
    assert [int(synset["ILSVRC2012_ID"].item()) for synset in synsets] == [1, 2, 3, 4, 5, 6]
    assert synsets[0]["words"] == "kit fox, Vulpes macrotis"
    assert synsets[0]["children"].size == 0
    assert synsets[4]["children"].tolist() == [[6, 1]]
    assert synsets[3]["num_train_images"].tolist() == [[1300]]


def test_numbers_texts_and_cells_of_an_uncompressed_matlab_file() -> None:
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + b"\0" * (-len(body) % 8)

    def matrix(kind: int, shape: tuple[int, ...], name: str, *rest: bytes) -> bytes:
        flags, sides = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
        return element(14, element(6, flags) + element(5, sides) + element(1, name.encode()) + b"".join(rest))

    numbers = matrix(6, (2, 3), "a", element(2, bytes(range(6))))  # doubles, stored as bytes
    text = matrix(4, (1, 2), "b", struct.pack("<HH", 4, 4) + "öß".encode("utf-16-le"))  # small: within its tag
    cell = matrix(1, (1, 2), "c", numbers, element(14, b""))
    read = read_mat(b" " * 124 + b"\0\1IM" + numbers + text + struct.pack("<II", 15, len(z := zlib.compress(cell))) + z)
    assert (
        json.dumps({key: value.tolist() for key, value in read.items() if key == "a"})
        == '{"a": [[0, 2, 4], [1, 3, 5]]}'
    )
    assert read["b"] == "öß"
    assert [part.shape for part in read["c"]] == [(2, 3), (0, 0)]


@pytest.mark.parametrize("damage", [slice(0, 100), slice(0, -9), slice(4, None)])
def test_a_damaged_matlab_file_is_refused(damage: slice) -> None:
    with pytest.raises(BadDataset, match="MATLAB"):
        read_mat(META.read_bytes()[damage])


def test_a_bomb_in_a_matlab_file_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed zeros, and compressed elements within compressed elements."""
    deep = b""
    for _ in range(3000):
        deep = struct.pack("<II", 15, len(packed := zlib.compress(deep, 0))) + packed
    monkeypatch.setattr(matfile, "MAX_BYTES", 10_000_000)
    zeros = zlib.compress(bytes(20_000_000))
    for body in (struct.pack("<II", 15, len(zeros)) + zeros, deep):
        with pytest.raises(BadDataset, match="damaged MATLAB file"):
            read_mat(b" " * 124 + b"\0\1IM" + body)
