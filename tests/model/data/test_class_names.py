"""The 1,000 classes of ILSVRC-2012, and names for class folders."""

import hashlib
import re
from pathlib import Path

import pytest
from torchvision.models import AlexNet_Weights

from model.data import class_names as module
from model.data.class_names import class_names, ilsvrc_synsets, people_names
from model.data.packed import BadDataset

DATA = Path(module.__file__).with_name("ilsvrc_synsets.txt")


def test_the_list_is_the_published_one_in_the_order_of_class_ids() -> None:
    assert hashlib.sha256(DATA.read_bytes()).hexdigest().startswith("acf75ef0abe89694")
    lines = DATA.read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"n\d{8} [\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", line) for line in lines)
    wnids = [wnid for wnid, _ in ilsvrc_synsets()]
    assert len(wnids) == 1000
    assert wnids == sorted(set(wnids))
    assert wnids[571] == "n03425413"
    assert people_names(wnids) == class_names(ilsvrc_synsets())
    pairs = zip(class_names(ilsvrc_synsets()), AlexNet_Weights.IMAGENET1K_V1.meta["categories"], strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [  # torchvision tells the two pairs apart in its own way
        ("crane (n02012849)", "crane bird"),
        ("crane (n03126707)", "crane"),
        ("maillot (n03710637)", "maillot"),
        ("maillot (n03710721)", "maillot tank suit"),
    ]


def test_folders_called_by_an_id_are_named_without_a_file_and_others_as_they_are() -> None:
    assert people_names(["dog", "n03425413", "n99999999"]) == ("dog", "gas pump", "n99999999")
    assert people_names(["crane", "n02012849", "n03126707"]) == ("crane", "crane (n02012849)", "crane (n03126707)")
    assert people_names(["n02012849", "n03425413"]) == ("crane", "gas pump")


def test_both_forms_of_a_file_and_what_it_leaves_out(tmp_path: Path) -> None:
    told: list[str] = []
    file = tmp_path / "names"
    file.write_bytes(
        "\ufeffa,cat\r\n\r\n"
        '"b, of 2",  "dog, ""big"""\r\n'
        "n03425413 fuel pump, bowser\r\n"
        "n01440764\ttench\r\n"
        "c,cat\r\n"
        "absent,bird\r\n".encode()
    )
    folders = ["a", "b, of 2", "c", "d", "n03425413", "n01443537"]
    names = people_names(folders, file, told.append)
    assert names == ("cat (a)", 'dog, "big"', "cat (c)", "d", "fuel pump", "goldfish")
    assert told == [f"{file}: 2 of its 6 names are for no folder here"]
    people_names(["a", "b, of 2", "c", "n03425413", "n01440764", "absent"], file, told.append)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a,cat\n\xff\xd8\xff", "names: not a text file in UTF-8"),
        (
            b"a,cat\ncat\n",
            "names, line 2: 1 values; a line is 'n01440764 tench, Tinca tinca' or 'folder,name', with quo",
        ),
        (b"a,cat\nb,dog,hound\n", "names, line 2: 3 values"),
        (b'a,"cat\n', "names, line 1: unexpected end of data; a line is"),
        (b"a,cat\nb,dog\na,cat\n", "names, line 3: a second name of 'a', 'cat' after 'cat'"),
        (b"a, \n", "names, line 1: an empty name"),
        (b",cat\n", "names, line 1: an empty name"),
        (b"n03425413 , pump\n", "names, line 1: an empty name"),
        (b"a,c\x00t\n", "names, line 1: a name with a control character"),
        (b"a,c\x1b[31mt\n", "names, line 1: a name with a control character"),
        (b"x,cat\ny,dog\n", "names: none of its 2 names is for a folder here \\(a, b, c, ...\\)"),
        (b"", "names: none of its 0 names is for a folder here"),
        (b"a,cat\n" * 20, "names: more than 100 bytes are no list"),
    ],
)
def test_a_file_that_is_no_list_of_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(BadDataset, match=complaint) as raised:
        people_names(["a", "b", "c", "d"], tmp_path / "names")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for file, reason in ((tmp_path, "Is a directory"), (tmp_path / "absent", "No such file")):
        with pytest.raises(BadDataset, match=f"cannot be read: {reason}"):
            people_names(["a"], file)
