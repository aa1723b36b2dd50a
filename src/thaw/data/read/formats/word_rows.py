"""Tables with a word a row, as sentences."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

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
