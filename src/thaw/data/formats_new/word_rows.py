"""Tables with a word a row, as sentences."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from thaw.errors import ThawError

log = logging.getLogger(__name__)

SENTENCE = re.compile(r"sent(ence)?s?[ _.]*(#|id|ids|no|nr|num|number|idx|index)?", re.IGNORECASE)
EMPTY = "_"  # what an empty word becomes, as in CoNLL-U


def sentences_of_words(
    rows: Iterable[Mapping[str, Any]], names: Mapping[str, str], column: str | None, origin: str
) -> Iterator[Mapping[str, Any]]:
    """Rows with a word each joined to sentences; rows of other tables as they are.

    A sentence goes on while the column that numbers sentences has the same value, or none.

    Args:
        rows: mappings of column to value.
        names: which columns hold `tokens` and `tags`.
        column: that numbers the sentences; None: found by its name, if the table has a word a row.
        origin: a file or data set, for messages.

    Raises:
        ThawError: the column is not there, or the first row has no value in it.
    """
    rows = iter(rows)
    head = list(islice(rows, 1))
    word = head[0].get(names["tokens"]) if head else None
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
    return joined(rows, names, column, origin)


def is_word(value: str) -> bool:
    """Whether a value is a word, and not a list that was written as text."""
    return not (value.startswith("[") and value.endswith("]") and len(value) > 2)


def sentence_column(row: Mapping[str, Any]) -> str | None:
    """The only column whose name says that it numbers sentences."""
    found = [name for name in row if SENTENCE.fullmatch(name.strip())]
    return found[0] if len(found) == 1 else None


def joined(
    rows: Iterable[Mapping[str, Any]], names: Mapping[str, str], column: str, origin: str
) -> Iterator[dict[str, Any]]:
    """Sentences of rows with a word each; see `sentences_of_words`."""
    wanted = [names[n] for n in ("tokens", "tags") if n in names]
    current: Any = None
    row: dict[str, Any] = {}
    seen: set[Any] = set()
    empty = again = 0
    for number, words in enumerate(rows, start=1):
        if missing := [c for c in (column, *wanted) if c not in words and c != names.get("tags")]:
            raise ThawError(f"{origin}: row {number} has no {missing[0]!r}.")
        value = words[column]
        blank = value is None or not str(value).strip()
        if number == 1 and blank:
            raise ThawError(
                f"{origin}: row 1 has no {column!r}, and a sentence begins where it has a value."
            )
        if number == 1 or (not blank and value != current):
            if row:
                yield row
            again += value in seen
            seen.add(value)
            current = value
            row = {**words, **{c: [] for c in wanted if c in words}}
        word = words[names["tokens"]]
        blank_word = word is None or not str(word).strip()
        empty += blank_word
        row[names["tokens"]].append(EMPTY if blank_word else str(word))
        if names.get("tags") in row:
            row[names["tags"]].append(words[names["tags"]])
    if row:
        yield row
    if empty:
        log.warning("%s: %d words are empty and read as %r", origin, empty, EMPTY)
    if again:
        log.warning(
            "%s: %d values of %r return after another one, and begin a new sentence each time. "
            "Are the rows in order?", origin, again, column,
        )  # fmt: skip
