"""Words and tags of tables: a word a row, a list of them a row, or a list in a cell."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from thaw.data.read.entities.tag_schemes import is_tag
from thaw.data.read.literals import literal
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

log = logging.getLogger(__name__)

SENTENCE = re.compile(r"sent(ence)?s?[ _.]*(#|id|ids|no|nr|num|number|idx|index)?", re.IGNORECASE)
EMPTY = "_"  # what an empty word becomes, as in CoNLL-U


def sentences_of_words(
    rows: Iterator[dict[str, Any]], how: Reading, origin: str
) -> Iterator[dict[str, Any]]:
    """Returns rows with a word each joined to sentences; rows of other tables as they are.

    A sentence goes on while the column that numbers sentences has the same value, or none.

    Args:
        rows: mappings of column to value.
        how: which columns hold words and tags, and which numbers the sentences; where none is
            named it is found by its name, if the table has a word a row.
        origin: a file or data set, for messages.

    Raises:
        ThawError: the column is not there, or the first row has no value in it.
    """
    head = list(islice(rows, 1))
    column = how.sentence
    word = head[0].get(how.tokens) if head else None
    if column is None and isinstance(word, str) and is_word(word):
        column = sentence_column(head[0])
        if column is not None:
            log.info("%s: a word a row; sentences by its column %r", origin, column)
    rows = chain(head, rows)
    if column is None or not head:
        return rows
    if column not in head[0]:
        there = ", ".join(map(repr, head[0]))
        raise ThawError(f"{origin} has no column {column!r}; it has {there}. Set data.sentence.")
    if how.tokens not in head[0]:
        there = ", ".join(map(repr, head[0]))
        raise ThawError(f"{origin} has no column {how.tokens!r}; it has {there}. Set data.tokens.")
    return joined(rows, how, column, origin)


def is_blank(value: Any) -> bool:
    """Returns whether a cell has nothing in it."""
    return value is None or not str(value).strip()


def is_word(value: str) -> bool:
    """Returns whether a value is a word, and not a list that was written as text."""
    return not (value.startswith("[") and value.endswith("]") and len(value) > 2)


def sentence_column(row: Mapping[str, Any]) -> str | None:
    """Returns the only column whose name says that it numbers sentences."""
    found = [name for name in row if SENTENCE.fullmatch(name.strip())]
    return found[0] if len(found) == 1 else None


def joined(
    rows: Iterable[dict[str, Any]], how: Reading, column: str, origin: str
) -> Iterator[dict[str, Any]]:
    """Yields sentences of rows with a word each; see `sentences_of_words`."""
    current: Any = None
    row: dict[str, Any] = {}
    seen: set[Any] = set()
    empty = again = 0
    for number, word_row in enumerate(rows, start=1):
        if missing := [c for c in (column, how.tokens) if c not in word_row]:
            raise ThawError(f"{origin}: row {number} has no {missing[0]!r}.")
        value = word_row[column]
        if number == 1 and is_blank(value):
            raise ThawError(
                f"{origin}: row 1 has no {column!r}, and a sentence begins where it has a value."
            )
        if number == 1 or (not is_blank(value) and value != current):
            if row:
                yield row
            again += value in seen
            seen.add(value)
            current = value
            row = {**word_row, **{c: [] for c in (how.tokens, how.tags) if c in word_row}}
        word = word_row[how.tokens]
        empty += is_blank(word)
        row[how.tokens].append(EMPTY if is_blank(word) else str(word))
        if how.tags in row:
            row[how.tags].append(word_row.get(how.tags))
    if row:
        yield row
    if empty:
        log.warning("%s: %d words are empty and read as %r", origin, empty, EMPTY)
    if again:
        log.warning(
            "%s: %d values of %r return after another one, and begin a new sentence each time. "
            "Are the rows in order?",
            origin,
            again,
            column,
        )


def read_words(tokens: Any, tags: Any, where: str) -> tuple[list[str], list[str]]:
    """The words of a row and their tags, as many."""
    if isinstance(tokens, str) or isinstance(tags, str):
        tokens, tags = listed(tokens, tags)
    for name, value in (("tokens", tokens), ("tags", tags)):
        if not isinstance(value, list):
            raise ThawError(
                f"{where}: {name} are {value!r:.60}; expected a list. Where a row is a word, "
                "data.sentence=<column> names the column that numbers the sentences."
            )
    if len(tokens) != len(tags):
        raise ThawError(f"{where}: {len(tokens)} tokens and {len(tags)} tags.")
    for name, value in (("token", tokens), ("tag", tags)):
        if wrong := [v for v in value if not isinstance(v, str)]:
            numbers = " A number gets its name in a function of yours: data.reader=."
            raise ThawError(
                f"{where}: {name} {wrong[0]!r} is no text; tags are names such as B-PER."
                + (numbers if isinstance(wrong[0], int) else "")
            )
    return tokens, tags


def listed(tokens: Any, tags: Any) -> tuple[Any, Any]:
    """Returns words and tags that a table holds as text.

    They are lists as Python, JSON and numpy write them, or words or tags apart by spaces, as many
    as the others. What is neither stays as it is.
    """
    words, kinds = (as_list(value) for value in (tokens, tags))
    if words is not None and kinds is not None:
        return words, kinds
    words, kinds = words or apart(tokens), kinds or apart(tags)
    tagged = all(kind == "O" or is_tag(str(kind)) for kind in kinds)
    if 1 < len(words) == len(kinds) and all(words) and tagged:
        return words, kinds
    return tokens, tags


def apart(value: Any) -> list[str]:
    """Returns the pieces of a text between spaces; none of what is no text or begins as a list."""
    return value.split(" ") if isinstance(value, str) and value[:1] != "[" else []


def as_list(value: Any) -> list[Any] | None:
    """Returns a list, or one that was written as text; None where it is none."""
    if isinstance(value, list):
        return value
    parsed = literal(value) if isinstance(value, str) and value[:1] == "[" else None
    return parsed if isinstance(parsed, list) else None
