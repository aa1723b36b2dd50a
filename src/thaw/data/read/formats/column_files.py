"""Column files: a word a line with its tag in a column, and blank lines between sentences, as
CoNLL-2003's (Tjong Kim Sang and De Meulder 2003)."""

import logging
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.entities.tag_schemes import MEANING, is_tag
from thaw.data.read.formats.column_layout import (
    Layout,
    find_layout,
    is_comment,
    is_word,
    split_fields,
)
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks, number_of
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

COLUMN_SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".bmes", ".txt")
HEAD = 1000  # lines that tell what the columns are
EMPTY = "_"  # what an empty word becomes, as in CoNLL-U


def column_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields sentences of a column file, as `tokens`, `tags` (if they are read) and `line`.

    Columns are separated by tabs where a line has one, else by spaces. A sentence ends at a line
    that is empty, or that has nothing but a tag O. An empty word with more beside it becomes "_"
    and is counted. Tabs too many at a line's end, `-DOCSTART-` lines, and comments before the first
    word of a sentence (see `is_comment`), are passed over.
    """
    lines = open_lines(path, how.encoding)
    head = list(islice(lines, HEAD))
    layout = find_layout(path, head, how)
    sentence: list[list[str]] = []
    start = number = empty = tabs = marks = comments = 0
    found = False
    for number, line in enumerate(chain(head, lines), start=1):
        fields = split_fields(line)
        ends = not is_word(fields)
        comment = number == layout.header
        comment |= not sentence and fields[0].startswith("#") and is_comment(fields, layout.width)
        marks += ends and any(fields)
        comments += comment and number != layout.header
        if not ends and not comment:
            fields = layout.fitted(number, fields)
            tabs += line.rstrip("\r\n").endswith("\t") and bool(fields[-1])
            ends = is_break(layout, number, fields)
        if ends and sentence:
            found = True
            yield as_row(sentence, start, layout)
            sentence = []
        if not ends and not comment:
            if not fields[layout.token_column]:
                fields[layout.token_column] = EMPTY
                empty += 1
            start = start if sentence else number
            sentence.append(fields)
    if sentence:
        yield as_row(sentence, start, layout)
    elif not found:
        raise ThawError(f"{path} has no sentence in its {number} lines.")
    if empty:
        log.warning("%s: %s empty and read as %r", path, number_of(empty, "words are"), EMPTY)
    if tabs:
        log.info("%s: %d lines end in tabs too many, which are passed over", path, tabs)
    return Remarks(parts={"-DOCSTART- lines": marks, "comments": comments})


def is_break(layout: Layout, number: int, fields: list[str]) -> bool:
    """Returns whether a line has no word; raises ThawError if it has a tag all the same."""
    tag = None if layout.tag_column is None else fields[layout.tag_column]
    if fields[layout.token_column]:
        if layout.prefixed and tag is not None and tag != "O" and not is_tag(tag):
            raise layout.wrong(number, fields, f"tag {tag!r}; expected {MEANING}.")
        return False
    if tag not in (None, "", "O"):
        raise layout.wrong(number, fields, f"a tag, {tag!r}, without a word.")
    return all(field in ("", "O") for field in fields)


def as_row(sentence: list[list[str]], line: int, layout: Layout) -> dict[str, Any]:
    """Returns a sentence's columns as a row."""
    row: dict[str, Any] = {"tokens": [f[layout.token_column] for f in sentence], "line": line}
    if layout.tag_column is not None:
        row["tags"] = [fields[layout.tag_column] for fields in sentence]
    return row
