"""The rows of a list: what is read, and what is refused in one line that says where."""

import sys
from pathlib import Path
from typing import Any

import pytest

from model.data import list_rows
from model.data.list_rows import Row, csv_rows, parquet_rows
from model.data.packed import BadDataset


def csv(folder: Path, text: str | bytes) -> Path:
    file = folder / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def table(folder: Path, **columns: Any) -> Path:
    import pyarrow  # here: tests of CSV need none of it
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def test_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    text = '\ufeffsplit, ID ,Path\r\nt,17,"a, b.jpg"\r\n\r\nt, , c.jpg \r\n'
    assert list(csv_rows(csv(tmp_path, text))) == [Row(2, "a, b.jpg", "", "17"), Row(4, "c.jpg", "", "")]
    assert list(csv_rows(csv(tmp_path, "\ufeffpath,label\nx.jpg,frog"))) == [Row(2, "x.jpg", "frog", "")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column called path, but none; path, label and id are read"),
        (
            "file,label\nx,y\n",
            "no column called path, but 'file', 'label'; path",
        ),
        ("x" * 5000 + "\n", f"no column called path, but '{'x' * 40}'; path"),
        ("path,path\n", "two columns are called path"),
        ("path,label\nx.jpg\n", "line 2: 1 values for 2 columns"),
        ("path\nx.jpg\na,b\n", "line 3: 2 values for 1 columns"),
        ('path\n"two\nlines.jpg"\n', "line 2: unexpected end of data"),
        ('path\n"a"b\n', "line 2: ',' expected after '\"'"),
        (b"path\n\xff.jpg\n", "not a text file in UTF-8"),
        ("path\n" + "x" * (list_rows.MAX_LINE + 1), "line 2: more than 65,536 characters"),
        ("path" + ",c" * list_rows.MAX_COLUMNS + "\n", "1,001 columns; at most 1,000 are accepted"),
    ],
)
def test_csv_that_is_no_list_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(BadDataset) as caught:
        list(csv_rows(csv(tmp_path, text)))
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "list.csv"))
    assert len(str(caught.value).splitlines()) == 1


def test_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_rows, "AT_ONCE", 2)
    file = table(tmp_path, Label=[3, None, 10], path=["a.jpg", " b.jpg ", "c.jpg"], other=[b"x", b"y", b"z"])
    assert list(parquet_rows(file)) == [Row(1, "a.jpg", "3", ""), Row(2, "b.jpg", "", ""), Row(3, "c.jpg", "10", "")]
    file = table(tmp_path, path=["a", "b", "c"], label=["cat", "dog", "cat"], id=["1", None, "3"])
    assert list(parquet_rows(file)) == [Row(1, "a", "cat", "1"), Row(2, "b", "dog", ""), Row(3, "c", "cat", "3")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"file": ["x"]}, "no column called path, but 'file'"),
        ({"path": ["a", "b"], "label": [1.5, 2.5]}, "row 1: label is no text and no number without a fraction"),
        ({"path": ["a", "x" * (list_rows.MAX_LINE + 1)]}, "row 2: path has more than 65,536 characters"),
        ({"path": ["a"], **{str(n): [0] for n in range(1000)}}, "1,001 columns; at most 1,000 are accepted"),
    ],
)
def test_parquet_that_is_no_list_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(BadDataset) as caught:
        list(parquet_rows(table(tmp_path, **columns)))
    assert said in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 200, -5])
def test_damaged_parquet_is_refused_in_one_line(tmp_path: Path, kept: int) -> None:
    file = table(tmp_path, path=[f"{n}.jpg" for n in range(1000)])
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BadDataset, match=r"list\.parquet: not a Parquet file that can be read: ") as caught:
        list(parquet_rows(file))
    assert len(str(caught.value).splitlines()) == 1


def test_parquet_with_a_text_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    file = table(tmp_path, path=["abcd.jpg", "efgh.jpg"])
    file.write_bytes(file.read_bytes().replace(b"efgh", b"\xffgh."))
    with pytest.raises(
        BadDataset, match=r"list\.parquet: not a Parquet file that can be read: a text that is not UTF-8$"
    ):
        list(parquet_rows(file))


def test_rows_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_rows, "MAX_ROWS", 3)
    assert len(list(csv_rows(csv(tmp_path, "path\na\nb\n")))) == 2
    with pytest.raises(BadDataset, match="more than 3 rows"):
        list(csv_rows(csv(tmp_path, "path\na\nb\nc\n")))
    with pytest.raises(BadDataset, match="more than 3 rows"):
        list(parquet_rows(table(tmp_path, path=["a", "b", "c", "d"])))


def test_a_description_of_itself_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = table(tmp_path, path=["a"])
    monkeypatch.setattr(list_rows, "MAX_FOOTER", 8)
    with pytest.raises(BadDataset, match="not a Parquet file that can be read"):
        list(parquet_rows(file))


def test_without_pyarrow_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadDataset, match=r"pip install 'fc7\[parquet\]'$"):
        list(parquet_rows(tmp_path / "list.parquet"))
