"""Names of classes for people: of ILSVRC-2012's 1,000 WordNet ids, and of the folders that a file names.

ilsvrc_synsets.txt, beside this file, is Caffe's synset_words.txt (of caffe_ilsvrc12.tar.gz): a class a line, sorted by
id. timm 1.0.31 has the same 1,000 lines (imagenet_synset_to_lemma.txt), and torchvision's categories are the first
words, but for two. The words are WordNet's; ilsvrc_synsets_license.txt is its licence.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from model.data.packed import BadDataset

__all__ = ["class_names", "ilsvrc_synsets", "names_in_lines", "people_names"]

SYNSET = re.compile(r"(n\d{8})\s+(.+)")
MAX_BYTES = 1 << 24  # of a file with names; one for all 21,841 classes of ImageNet has 1 MB
FORMS = "a line is 'n01440764 tench, Tinca tinca' or 'folder,name'"


def ilsvrc_synsets() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, words) of the 1,000 classes, sorted by id: a class id is a position here."""
    lines = Path(__file__).with_name("ilsvrc_synsets.txt").read_text("utf-8").splitlines()
    return tuple((wnid, words) for wnid, words in (line.split(" ", 1) for line in lines))


def class_names(synsets: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The class names of (WordNet id, words): the first word; with the id behind it where two classes share it."""
    return _distinct([(wnid, words.split(",")[0].strip()) for wnid, words in synsets])


def names_in_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The class names of a file with one a line.

    Where every line is one of Caffe's synset_words.txt, "n01440764 tench, Tinca tinca", they are those that the packed
    archives have.
    """
    found = [match for line in lines if (match := SYNSET.fullmatch(line))]
    return class_names([(match[1], match[2]) for match in found]) if len(found) == len(lines) else tuple(lines)


def people_names(
    folders: Sequence[str], file: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> tuple[str, ...]:
    """Return a name for each class folder, in the folders' order.

    A name is the one in `file`; else the first word of the WordNet id that the folder is called by; else the folder's
    own. Where several folders share a name, the folder follows in brackets: "crane (n02012849)".

    file: text, UTF-8, with lines as in Caffe's synset_words.txt, "n01440764 tench, Tinca tinca", or lines of CSV,
    "folder,name". log: told how many of its names are for no folder here. Raises BadDataset for a file that cannot be
    read, with the line's number; for two names of one folder; and for a file that names none of the folders.
    """
    known = dict(ilsvrc_synsets())
    names = {folder: known[folder].split(",")[0] for folder in folders if folder in known}
    if file is not None:
        given = _names_in(file)
        names |= {folder: given[folder] for folder in folders if folder in given}
        if not given.keys() & set(folders):
            raise BadDataset(f"{file}: none of its {len(given):,} names is for a folder here ({_some(folders)})")
        if unused := len(given.keys() - set(folders)):
            log(f"{file}: {unused:,} of its {len(given):,} names are for no folder here")
    return _distinct([(folder, names.get(folder, folder)) for folder in folders])


def _distinct(named: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names of (folder, name), with the folder behind a name that is another's too."""
    often = Counter(name for _, name in named)
    return tuple(name if often[name] == 1 or name == folder else f"{name} ({folder})" for folder, name in named)


def _names_in(file: Path) -> dict[str, str]:
    """Return folder -> name as the file has them. Raises BadDataset."""
    names: dict[str, str] = {}
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            folder, name = _named(line)
        except ValueError as error:
            raise BadDataset(f"{file}, line {number}: {error}") from error
        if folder in names:
            raise BadDataset(f"{file}, line {number}: a second name of {folder!r}, {name!r} after {names[folder]!r}")
        names[folder] = name
    return names


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BadDataset(f"{file}: more than {MAX_BYTES:,} bytes are no list of class names")
        return data.decode("utf-8-sig")  # spreadsheets begin their CSV with a byte order mark
    except OSError as error:
        raise BadDataset(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadDataset(f"{file}: not a text file in UTF-8") from error


def _named(line: str) -> tuple[str, str]:
    """Return folder and name of one line. Raises ValueError."""
    if match := SYNSET.fullmatch(line.strip()):
        folder, name = match[1], match[2].split(",")[0]
    else:
        try:
            cells = next(csv.reader([line], strict=True, skipinitialspace=True))
        except csv.Error as error:
            raise ValueError(f"{error}; {FORMS}") from error
        if len(cells) != 2:
            raise ValueError(f"{len(cells)} values; {FORMS}, with quotes around a value that has a comma")
        folder, name = cells
    name = name.strip()
    if not folder or not name:
        raise ValueError("an empty name")
    if any(unicodedata.category(letter) == "Cc" for letter in folder + name):
        raise ValueError("a name with a control character")
    return folder, name


def _some(folders: Sequence[str]) -> str:
    return ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "") if folders else "there is none"
