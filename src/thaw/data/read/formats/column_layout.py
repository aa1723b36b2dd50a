"""What the columns of a column file are, found from its first lines, or said why they cannot be."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.data.read.entities.tag_schemes import MEANING, is_tag
from thaw.data.read.header import shown
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

log = logging.getLogger(__name__)

NUMBER = re.compile(r"\d+([-.]\d+)?")


@dataclass(frozen=True)
class Layout:
    """The columns of a file; without `tag_column` no tags are read."""

    path: Path
    width: int  # number of columns of a line
    token_column: int
    tag_column: int | None
    prefixed: bool = False  # whether tags have prefixes, so that one without is an error
    header: int = 0  # number of the line that names the columns, 0 where there is none

    def wrong(self, number: int, fields: Sequence[str], why: str) -> ThawError:
        """Returns the error for a line, which is shown with its columns numbered."""
        read = "is read" if self.tag_column is None else "are read"
        return ThawError(
            f"{self.path} line {number}: {why} Its columns are {shown(fields)}; "
            f"{options(self.token_column, self.tag_column)} {read}."
        )

    def fitted(self, number: int, fields: list[str]) -> list[str]:
        """Returns a line's columns, as many as others have; raises ThawError if these are not
        there."""
        if self.width and len(fields) != self.width:
            if len(fields) > self.width and not any(fields[self.width :]):
                return fields[: self.width]
            why = f"{len(fields)} columns, the others have {self.width}."
            raise self.wrong(number, fields, why)
        return fields


def find_layout(path: Path, head: Sequence[str], how: Reading) -> Layout:
    """Returns what the columns of a file are, from its first lines; see `column_rows`."""
    rows = [
        (n, fields) for n, line in enumerate(head, start=1) if is_word(fields := split_fields(line))
    ]
    widths = Counter(filled(f) for _, f in rows if not f[0].startswith("#"))
    width = widths.most_common(1)[0][0] if widths else 0
    rows = [
        (n, f[:width])
        for n, f in rows
        if not (f[0].startswith("#") and is_comment(f, width)) and filled(f) == width
    ]
    layout = Layout(path, width, how.token_column, how.tag_column)
    if not rows:
        return layout
    first = rows[0][0]
    require_columns(layout, *rows[0])
    named = how.header if how.header is not None else is_header(rows)
    if named:
        log.info("%s: line %d names the columns: %s", path, first, " ".join(rows[0][1]))
        rows = rows[1:]
    if rows:
        require_words(layout, rows, how.scheme)
    tags = set() if how.tag_column is None else {f[how.tag_column] for _, f in rows}
    prefixed = how.scheme != "io" and any(map(is_tag, tags))
    return replace(layout, prefixed=prefixed, header=first if named else 0)


def is_header(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Returns whether a column holds tags in each of the first lines but the very first."""
    (_, first), *rest = rows
    for place in range(len(first)):
        tags = {fields[place] for _, fields in rest}
        types = {tag[2:] for tag in tags}
        if is_tag_column(tags) and not is_tag(first[place]) and first[place] not in {"O", *types}:
            return True
    return False


def is_tag_column(tags: set[str]) -> bool:
    """Returns whether values are tags of entities, and not O alone."""
    return any(map(is_tag, tags)) and all(tag == "O" or is_tag(tag) for tag in tags)


def require_words(
    layout: Layout, rows: Sequence[tuple[int, list[str]]], scheme: str | None
) -> None:
    """Raises ThawError if the columns to read hold numbers or tags, not words, or no tags."""
    number, row = rows[0]
    values = [{fields[place] for _, fields in rows} for place in range(layout.width)]
    tagged = [place for place in range(layout.width) if is_tag_column(values[place])]
    counted = [place for place in range(layout.width) if counts(rows, place)]
    words = [p for p in range(layout.width) if p not in tagged and p not in counted]
    token = layout.token_column % layout.width
    tag = None if layout.tag_column is None else layout.tag_column % layout.width
    why = ""
    if token in counted:
        why = "The words would be the numbers of rows, 1, 2, 3, ..."
    elif token in tagged:
        why = "The words would be tags."
    elif (
        tag is not None
        and scheme != "io"
        and not ("O" in values[tag] or any(map(is_tag, values[tag])))
    ):
        why = f"{sorted(values[tag])[0]!r} is no tag; expected {MEANING}."
        why += " Is that column not of tags?" if not tagged else ""
    if not why:
        return
    if words and (tagged or tag is None):
        right = options(words[0], None if tag is None else tagged[0])
        why += f" Try {right.replace(' and ', ' ')}."
    elif layout.width == 10 and 0 in counted:
        why += " CoNLL-U is read with data.format=conllu."
    raise layout.wrong(number, row, why)


def counts(rows: Sequence[tuple[int, list[str]]], place: int) -> bool:
    """Returns whether a column counts the words of each sentence: 1, 2, 3, ..., or 2-3."""
    expected, last = 1, 0
    for number, fields in rows:
        value = fields[place]
        if number != last + 1:
            expected = 1
        last = number
        if not NUMBER.fullmatch(value):
            return False
        if value.isdigit():
            if int(value) != expected:
                return False
            expected += 1
    return len(rows) > 2


def options(token_column: int, tag_column: int | None) -> str:
    """Returns the options that choose columns as they are typed, in training or prediction."""
    if tag_column is None:
        return f"token_column={token_column} (in training data.token_column={token_column})"
    return f"data.token_column={token_column} and data.tag_column={tag_column}"


def filled(fields: Sequence[str]) -> int:
    """Returns how many columns a line has without the empty ones at its end."""
    return max((place + 1 for place, field in enumerate(fields) if field), default=0)


def is_word(fields: list[str]) -> bool:
    """Returns whether a line is one of a sentence."""
    return any(fields) and not fields[0].startswith("-DOCSTART-")


def is_comment(fields: list[str], width: int) -> bool:
    """Returns whether a line that begins with # is about the next sentence, as in CoNLL-U."""
    tagged = fields[-1] == "O" or is_tag(fields[-1])
    return bool(width) and (len(fields) != width or (fields[0] == "#" and width > 1 and not tagged))


def split_fields(line: str) -> list[str]:
    """Returns the columns of a line; one blank column for a blank line."""
    if "\t" in line:
        return [field.strip(" \r\n") for field in line.split("\t")]
    return re.split(" +", line.strip(" \r\n"))


def require_columns(layout: Layout, number: int, fields: list[str]) -> None:
    """Raises ThawError unless the columns to read are there, and are two."""
    asked = {"token_column": layout.token_column}
    asked |= {} if layout.tag_column is None else {"tag_column": layout.tag_column}
    places = {}
    for name, column in asked.items():
        if not -len(fields) <= column < len(fields):
            why = f"{len(fields)} columns, and {name}={column} asks for another."
            raise layout.wrong(number, fields, why)
        places[column % len(fields)] = name
    if len(places) < len(asked):
        raise layout.wrong(number, fields, "there is no column of tags beside the words.")
