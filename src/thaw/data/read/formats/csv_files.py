"""CSV and TSV (RFC 4180), with and without a header."""

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.formats.own import OWN_READER
from thaw.data.read.header import Header, find_header
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Placed, Reader, Remarks, number_of
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = 20  # lines that tell what is between fields
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


def csv_rows(path: Path, part: str | None, how: Reading, asked: str | None = None) -> Reader:
    """Yields rows of CSV; `asked` is what is between fields, which else the first line tells, or
    says as `sep=;`. Raises ThawError if a row has other fields than the header, a quote is not
    closed, or lines that quotes join may as well be rows of their own."""
    csv.field_size_limit(2**31 - 1)
    lines = open_lines(path, how.encoding, newline="")
    head = list(islice(lines, HEAD))
    begin = 1
    delimiter, said = asked, "".join(head[:1]).strip().strip('"')
    if delimiter is None and said.lower().startswith("sep=") and len(said) == 5:
        delimiter, begin = said[4], 2
        del head[0]
    first = "".join(head[:1])
    if delimiter is None:
        delimiter = find_delimiter(path, head, how.text)
        if delimiter != ",":
            log.info("%s: the fields of the header are apart by %r", path, delimiter)
    rest = first.split(delimiter)[1:]
    spaced = delimiter != "\t" and bool(rest) and all(field.startswith(" ") for field in rest)
    if spaced:
        log.info("%s: spaces behind %r are no part of a field", path, delimiter)
    reader = csv.reader(
        chain(head, lines),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=spaced,
        **QUOTING[how.quoting or "csv"],
    )
    header: Header | None = None
    start = begin
    blank = several = number = 0
    gaps, certain = False, how.quoting is not None
    try:
        for row in reader:
            end = reader.line_num + begin - 1
            if not row:
                blank += 1
                number += header is not None
                gaps |= header is not None
                yield from [{}] * (how.words and header is not None)  # it may end a sentence
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
                number += 1
                found = header.as_row(row)
                yield Placed(found, number) if gaps and not how.words else found
            start = end + 1
    except csv.Error as error:
        raise ThawError(f"{path} line {start}: {error}. {QUOTES}") from error
    if header is None:
        raise ThawError(f"{path} is empty.")
    if several:
        log.info("%s: %s on several lines, within quotes", path, number_of(several, "rows"))
    return Remarks(parts={"blank lines": blank})


def find_delimiter(path: Path, head: Sequence[str], text: str) -> str:
    """Returns what splits the first lines of a table into as many fields, one of them called `text`
    if several do; raises ThawError if that does not tell."""
    there = [d for d in ",;\t|" if d in "".join(head[:1])]
    tables = {d: [row for row in csv.reader(head, delimiter=d) if row] for d in there}
    for last in (-1 if len(head) == HEAD else None, 2):  # of 20 lines, the last row may go on
        widths = {d: {len(row) for row in tables[d][:last]} for d in there}
        fits = [d for d in there if len(widths[d]) == 1 and widths[d] != {1}]
        named = [d for d in fits if text in tables[d][0]]
        if len(fits) > 1 and len(named) != 1:
            names = " or ".join(f"{d!r} ({', '.join(map(repr, tables[d][0]))})" for d in fits)
            raise ThawError(
                f"{path}: between its fields may be {names}. A line before the first one tells: "
                f"sep={fits[-1]}"
            )
        if fits:
            return (named or fits)[0]
    return next(iter(there), ",")


def fitted(path: Path, line: int, row: list[str], header: Header, delimiter: str) -> list[str]:
    """Returns a row without empty fields behind it; raises ThawError if it still does not fit."""
    width = header.width
    if len(row) > width and not any(field.strip() for field in row[width:]):
        return row[:width]
    inside = repr(delimiter) if len(row) > width else "line end"
    hint = f"A {inside} within a field needs quotes around it. Where rows differ in width, "
    hint += OWN_READER
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
    """Raises ThawError if a file can be read in both ways: with lines that quotes join, such as
    those of `place`, and with quotes that are part of the text."""

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
