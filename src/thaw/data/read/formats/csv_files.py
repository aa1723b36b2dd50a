"""CSV and TSV (RFC 4180), with and without a header."""

import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

QUOTES = (
    "A quote within a quoted field is written twice; where it has a backslash before it, "
    "data.quoting=backslash reads it. Where quotes are part of the text, data.quoting=none reads "
    "each line as it is. In prediction it is quoting=."
)
QUOTING: dict[str, dict[str, Any]] = {
    "csv": {"quoting": csv.QUOTE_MINIMAL},
    "backslash": {"quoting": csv.QUOTE_MINIMAL, "doublequote": False, "escapechar": "\\"},
    "none": {"quoting": csv.QUOTE_NONE},
}


@dataclass(frozen=True)
class Header:
    """The columns of a table.

    Attributes:
        names: of the columns that are read.
        width: of a row, those included that are passed over.
        places: of the columns that are read; None: all.
        is_row: whether the line that it was made from is a row, too.
    """

    names: list[str]
    width: int
    places: list[int] | None
    is_row: bool

    def as_row(self, fields: Sequence[Any]) -> dict[str, Any]:
        """Returns fields, as many as `width`, by the names of their columns."""
        if self.places is not None:
            fields = [fields[place] for place in self.places]
        return dict(zip(self.names, fields, strict=True))


def find_header(path: Path, first: Sequence[Any], how: Reading) -> Header:
    """Returns the columns of a table from its first row.

    Where two or more have no name, as Excel exports empty columns, these are passed over.

    Raises:
        ThawError: two columns have one name, or `columns` are more or fewer than the row has.
    """
    has_header = how.columns is None if how.header is None else how.header
    names = ["" if name is None else str(name) for name in first]
    if how.columns is not None:
        if len(how.columns) != len(first):
            raise ThawError(
                f"{path}: its first row has {len(first)} fields ({shown(first)}), and data.columns "
                f"names {len(how.columns)}: {', '.join(how.columns)}. In prediction it is "
                "columns=, or header=true where the first line has the names."
            )
        if names == list(how.columns) and not has_header:
            log.info("%s: the first line holds the names of data.columns and is no row", path)
            has_header = True
        names = list(how.columns)
    elif not has_header:
        names = [str(place) for place in range(len(first))]
    nameless = [place for place, name in enumerate(names) if not name.strip()]
    places = None
    if len(nameless) > 1:
        log.info("%s: %d columns without a name are passed over", path, len(nameless))
        places = [place for place in range(len(names)) if place not in nameless]
        names = [names[place] for place in places]
    check_names(path, names)
    return Header(names, len(first), places, not has_header)


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises ThawError if two columns have one name."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ThawError(f"{path}: the header has {name!r} twice; rename one.")


def header_hint(row: Mapping[str, Any]) -> str:
    """Returns what to type where the names in the first row are a row, or numbers: a sentence with
    a space before it; else ""."""
    names = list(row)
    if names == [str(place) for place in range(len(names))]:
        return f" The first row is {shown(row.values())}."
    if not any(len(name.split()) > 3 or name.replace(".", "", 1).isdigit() for name in names):
        return ""
    places = [place for place, name in enumerate(names) if name.strip()]
    text = max(places, key=lambda place: len(names[place]))
    label = min(places, key=lambda place: len(names[place]))
    return (
        f" If the first line is a row ({shown(names)}) and no header, type data.header=false and "
        f"numbers of columns, such as data.text={text} data.label={label}."
    )


def shown(row: Iterable[Any]) -> str:
    """Returns fields with their numbers, for messages."""
    return ", ".join(f"{place}: {str(value)[:30]!r}" for place, value in enumerate(row))


def csv_rows(path: Path, part: str | None, how: Reading, asked: str | None = None) -> Reader:
    """Yields rows of CSV.

    Args:
        path: of the file.
        part: None.
        how: header and quoting.
        asked: what is between fields; None: the first line tells it, or says it as `sep=;`.

    Raises:
        ThawError: a row has other fields than the header, a quote is not closed, or lines that
            quotes join may as well be rows of their own.
    """
    csv.field_size_limit(2**31 - 1)
    lines = open_lines(path, how.encoding, newline="")
    first = next(lines, "")
    begin = 1
    delimiter, said = asked, first.strip().strip('"')
    if delimiter is None and said.lower().startswith("sep=") and len(said) == 5:
        delimiter, first, begin = said[4], next(lines, ""), 2
    second = next(lines, "")
    if delimiter is None:
        delimiter = find_delimiter(first, second)
        if delimiter != ",":
            log.info("%s: the fields of the header are apart by %r", path, delimiter)
    spaced = has_spaces(first, delimiter)
    if spaced:
        log.info("%s: spaces behind %r are no part of a field", path, delimiter)
    reader = csv.reader(
        chain([first], [second] * bool(second), lines),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=spaced,
        **QUOTING[how.quoting or "csv"],
    )
    header: Header | None = None
    start = begin
    blank = several = 0
    certain = how.quoting is not None
    try:
        for row in reader:
            end = reader.line_num + begin - 1
            blank += not row
            if header is None and row:
                header = find_header(path, row, how)
                row = row if header.is_row else []
                certain |= first.startswith('"') and not header.is_row
            if row and header is not None:
                if len(row) != header.width:
                    row = fitted(path, start, row, header, delimiter)
                if end > start:
                    several += 1
                    if not certain and joins_rows(row, delimiter):
                        require_joined(path, how, asked, f"lines {start} to {end}")
                        certain = True
                yield header.as_row(row)
            start = end + 1
    except csv.Error as error:
        raise ThawError(f"{path} line {start}: {error}. {QUOTES}") from error
    if header is None:
        raise ThawError(f"{path} is empty.")
    if several:
        log.info("%s: %d rows stand on several lines each, within quotes", path, several)
    return Remarks(parts={"blank lines": blank})


def find_delimiter(first: str, second: str) -> str:
    """Returns what is between the fields of a table: what gives its first two lines as many."""
    there = [d for d in ",;\t|" if d in first]
    for delimiter in there:
        one, two = (len(next(csv.reader([s], delimiter=delimiter), ())) for s in (first, second))
        if one == two > 1:
            return delimiter
    return next(iter(there), ",")


def has_spaces(first: str, delimiter: str) -> bool:
    """Returns whether each field of a header but the first one has a space before it."""
    rest = first.split(delimiter)[1:]
    return delimiter != "\t" and bool(rest) and all(field.startswith(" ") for field in rest)


def fitted(path: Path, line: int, row: list[str], header: Header, delimiter: str) -> list[str]:
    """Returns a row without empty fields behind it; raises ThawError if it still does not fit."""
    width = header.width
    if len(row) > width and not any(field.strip() for field in row[width:]):
        return row[:width]
    inside = repr(delimiter) if len(row) > width else "line end"
    hint = f"A {inside} within a field needs quotes around it."
    if len(row) < width and (joined := [f for f in row if delimiter in f or "\n" in f]):
        hint = f"Quotes hold {joined[0]!r:.60} together. {QUOTES}"
    what = "the first line" if header.is_row else "the header"
    raise ThawError(
        f"{path} line {line}: {len(row)} fields, {what} has {width} ({', '.join(header.names)}). "
        f"{hint}"
    )


def joins_rows(row: Sequence[str], delimiter: str) -> bool:
    """Returns whether each line of a row that is several lines has as many fields as the row, and
    nothing shows that the quotes are CSV's, as one does that is written twice within a field."""
    if any('"' in field and ("\n" in field or "\r" in field) for field in row):
        return False
    lines = [line for line in re.split("[\r\n]+", delimiter.join(row)) if line]
    return len(lines) > 1 and all(line.count(delimiter) == len(row) - 1 for line in lines)


def require_joined(path: Path, how: Reading, asked: str | None, place: str) -> None:
    """Raises ThawError if a file can be read in both ways: with lines that quotes join, and with
    quotes that are part of the text.

    Args:
        path: of the file.
        how: how it is read.
        asked: see `csv_rows`.
        place: lines of a row, each of which could be one.
    """

    def count(quoting: str) -> int:
        return sum(1 for _ in csv_rows(path, None, replace(how, quoting=quoting), asked))

    try:
        plain = count("none")
    except ThawError:
        return
    raise ThawError(
        f"{path} {place}: a quote opens in the first and closes in the last of them, and each is a "
        f"row of its own as well. data.quoting=none reads {plain} rows, one a line, with quotes as "
        f"they are; data.quoting=csv reads {count('csv')}. In prediction it is quoting=."
    )
