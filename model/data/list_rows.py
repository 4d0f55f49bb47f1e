"""The rows of a list of images, CSV or Parquet, within limits: whoever made the list need not be trusted."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from model.data.mapped import BadDataset

__all__ = ["Row", "csv_rows", "parquet_rows"]

COLUMNS = ("path", "label", "id")  # the first has to be there
MAX_ROWS = 20_000_000
MAX_COLUMNS = 1_000
MAX_LINE = 1 << 16  # characters of a line of CSV, or of a value of Parquet
AT_ONCE = 10_000  # rows of Parquet in memory
SHOWN = 40  # characters of a column's name in a message
MAX_FOOTER = 1 << 26  # bytes, and parts, that Parquet's description of itself may have


class Row(NamedTuple):
    """One image of a list; "" where a column is not there or has nothing."""

    number: int  # of the line, or of the row, from 1 on
    path: str
    label: str
    id: str


def csv_rows(file: Path) -> Iterator[Row]:
    """Read a list in CSV, UTF-8, a row a line, with the columns' names first. Raises BadDataset, with the line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = _lines(file, opened)
            number, line = next(lines, (1, ""))
            header = _cells(file, number, line)
            places = _places(file, header)
            for number, line in lines:
                if cells := _cells(file, number, line):
                    if len(cells) != len(header):
                        raise BadDataset(f"{file}, line {number}: {len(cells)} values for {len(header)} columns")
                    yield Row(number, *("" if place is None else cells[place].strip() for place in places))
    except UnicodeDecodeError as error:
        raise BadDataset(f"{file}: not a text file in UTF-8") from error
    except OSError as error:
        raise BadDataset(f"{file}: cannot be read: {error.strerror}") from error


def parquet_rows(file: Path) -> Iterator[Row]:
    """Read a list in Parquet. Raises BadDataset, with the row; without pyarrow it says how to install it."""
    try:
        from pyarrow import ArrowException, parquet  # an extra, because it is as large as all else but torch
    except ImportError as error:
        raise BadDataset(
            f"{file}: reading Parquet needs pyarrow; install it with: pip install 'fc7[parquet]'"
        ) from error
    limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": MAX_FOOTER}
    try:
        with parquet.ParquetFile(file, **limits) as opened:
            names = opened.schema_arrow.names
            wanted = [names[place] for place in _places(file, names) if place is not None]
            if opened.metadata.num_rows > MAX_ROWS:
                raise BadDataset(f"{file}: more than {MAX_ROWS:,} rows")
            number = 0
            for batch in opened.iter_batches(AT_ONCE, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    named = {name.strip().lower(): value for name, value in values.items()}
                    yield Row(number, *(_text(file, number, name, named.get(name)) for name in COLUMNS))
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        why = "" if isinstance(error, UnicodeDecodeError) else next(iter(str(error).splitlines()), "")
        raise BadDataset(f"{file}: not a Parquet file that can be read: {why or 'a text that is not UTF-8'}") from error


def _lines(file: Path, opened: IO[str]) -> Iterator[tuple[int, str]]:
    """The lines with their numbers. Raises BadDataset for too long a line, and for too many."""
    number = 0
    while line := opened.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise BadDataset(f"{file}, line {number}: more than {MAX_LINE:,} characters")
        if number > MAX_ROWS:
            raise BadDataset(f"{file}: more than {MAX_ROWS:,} rows")
        yield number, line


def _cells(file: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        raise BadDataset(f"{file}, line {number}: {error}; a value with a comma or a quote wants quotes") from error


def _places(file: Path, header: Sequence[str]) -> list[int | None]:
    """Return where each of COLUMNS is in a header. Raises BadDataset."""
    if len(header) > MAX_COLUMNS:
        raise BadDataset(f"{file}: {len(header):,} columns; at most {MAX_COLUMNS:,} are accepted")
    names = [name.strip().lower() for name in header]
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise BadDataset(f"{file}: two columns are called {twice[0]}")
    if "path" not in names:
        there = ", ".join(repr(name[:SHOWN]) for name in header[:5]) or "none"
        raise BadDataset(f"{file}: no column called path, but {there}; path, label and id are read")
    return [names.index(name) if name in names else None for name in COLUMNS]


def _text(file: Path, number: int, column: str, value: Any) -> str:
    """A value of Parquet as CSV would have it. Raises BadDataset."""
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise BadDataset(f"{file}, row {number}: {column} is no text and no number without a fraction")
    if len(text := str(value).strip()) > MAX_LINE:
        raise BadDataset(f"{file}, row {number}: {column} has more than {MAX_LINE:,} characters")
    return text
