"""Column files: a word a line with its tag in a column, and blank lines between sentences, as
CoNLL-2003's (Tjong Kim Sang and De Meulder 2003)."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.data.read.tables import open_lines
from thaw.data.read.tag_schemes import is_tag
from thaw.errors import ThawError

COLUMN_SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".txt")


def column_rows(
    path: Path, encoding: str = "utf-8", token_column: int = 0, tag_column: int | None = -1
) -> Iterator[dict[str, Any]]:
    """Sentences of a column file.

    Columns are separated by tabs where a line has one, else by spaces. A sentence ends at a line
    that is empty, or whose word and tag are blank. `-DOCSTART-` lines, and comments before the
    first word of a sentence (see `is_comment`), are passed over.

    Args:
        path: of any name; .gz, .bz2 and .xz are unpacked.
        encoding: of the text.
        token_column: of the words, from 0; negative from the end.
        tag_column: of the tags; None: none are read.

    Returns:
        For each sentence `tokens`, `tags` (without `tag_column`: none) and `line`, the number of
        its first line, from 1.

    Raises:
        ThawError: no such file, an empty one, a line with other columns than the rest, or a tag
            without a word.
    """
    asked = {"token_column": token_column}
    asked |= {} if tag_column is None else {"tag_column": tag_column}
    sentence: list[list[str]] = []
    start = number = 0
    found = False
    lines = open_lines(path, encoding)
    head = list(islice(lines, 1000))
    width = next(
        (len(f) for f in map(split_fields, head) if is_word(f) and not f[0].startswith("#")), 0
    )
    for number, line in enumerate(chain(head, lines), start=1):
        fields = split_fields(line)
        ends = not is_word(fields)
        comment = not sentence and fields[0].startswith("#") and is_comment(fields, width)
        if not ends and not comment:
            if width and len(fields) != width:
                raise ThawError(
                    f"{path} line {number}: {len(fields)} columns, the others have {width}: "
                    f"{line.strip()!r}."
                )
            require_columns(path, number, fields, asked)
            ends = is_break(path, number, fields, token_column, tag_column)
        if ends and sentence:
            found = True
            yield as_row(sentence, start, token_column, tag_column)
            sentence = []
        if not ends and not comment:
            start = start if sentence else number
            sentence.append(fields)
    if sentence:
        yield as_row(sentence, start, token_column, tag_column)
    elif not found:
        raise ThawError(f"{path} has no sentence in its {number} lines.")


def is_word(fields: list[str]) -> bool:
    """Whether a line is one of a sentence."""
    return any(fields) and not fields[0].startswith("-DOCSTART-")


def is_comment(fields: list[str], width: int) -> bool:
    """Whether a line that begins with # says something about the next sentence, as in CoNLL-U."""
    tagged = fields[-1] == "O" or is_tag(fields[-1])
    return bool(width) and (len(fields) != width or (fields[0] == "#" and width > 1 and not tagged))


def split_fields(line: str) -> list[str]:
    """The columns of a line; one blank column for a blank line."""
    if "\t" in line:
        return [field.strip(" \r\n") for field in line.split("\t")]
    return re.split(" +", line.strip(" \r\n"))


def require_columns(path: Path, number: int, fields: list[str], asked: dict[str, int]) -> None:
    """Raises ThawError unless the columns to read are there, and are two."""
    places = {}
    for name, column in asked.items():
        if not -len(fields) <= column < len(fields):
            raise ThawError(
                f"{path} line {number}: {len(fields)} columns, and {name}={column} asks for "
                f"another: {' '.join(fields)!r}."
            )
        places[column % len(fields)] = name
    if len(places) < len(asked):
        raise ThawError(
            f"{path} line {number}: {' '.join(fields)!r} has no column of tags beside the words."
        )


def is_break(
    path: Path, number: int, fields: list[str], token_column: int, tag_column: int | None
) -> bool:
    """Whether a line has no word; a ThawError where it has a tag all the same."""
    if fields[token_column]:
        return False
    if tag_column is not None and fields[tag_column] not in ("", "O"):
        raise ThawError(f"{path} line {number}: a tag, {fields[tag_column]!r}, without a word.")
    return True


def as_row(
    sentence: list[list[str]], line: int, token_column: int, tag_column: int | None
) -> dict[str, Any]:
    """A sentence's columns as a row."""
    row: dict[str, Any] = {"tokens": [fields[token_column] for fields in sentence], "line": line}
    if tag_column is not None:
        row["tags"] = [fields[tag_column] for fields in sentence]
    return row
