"""Words and tags of tables: a word a row, a list of them a row, or a list in a cell."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from thaw.data.read.entities.tag_schemes import is_tag
from thaw.data.read.formats.own import OWN_READER
from thaw.data.read.literals import literal
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Placed, Reader, Rows, number_of, numbered, replaced
from thaw.errors import ThawError

log = logging.getLogger(__name__)

SENTENCE = re.compile(r"sent(ence)?s?[ _.]*(#|id|ids|no|nr|num|number|idx|index)?", re.IGNORECASE)
HEAD = 1000  # rows that tell whether blank ones are between sentences
EMPTY = "_"  # what an empty word becomes, as in CoNLL-U


def sentences_of_words(
    rows: Iterator[dict[str, Any]], how: Reading, origin: str
) -> Iterator[dict[str, Any]]:
    """Returns rows with a word each joined to sentences; rows of other tables as they are.

    A sentence goes on while the column that numbers sentences has the same value, or none; without
    such a column, up to a blank row. Where `how` does not name the column, it is found by its name.
    """
    head = list(islice(rows, 1))
    first = head[0] if head else {}
    column, blank_lines = how.sentence, False
    word = first.get(how.tokens)
    if column is None and isinstance(word, str) and is_word(word):
        column = sentence_column(first)
        if column is None:
            head += islice(rows, HEAD)
            blank_lines = has_blank_rows(head, how)
        if column is not None or blank_lines:
            by = "blank rows" if column is None else f"its column {column!r}"
            log.info("%s: a word a row; sentences by %s", origin, by)
    rows = chain(head, rows)
    if not first or (column is None and not blank_lines):
        return (row for row in rows if row)
    for option, name in (("sentence", column), ("tokens", how.tokens)):
        if name is not None and name not in first:
            there = ", ".join(map(repr, first))
            raise ThawError(f"{origin} has no column {name!r}; it has {there}. Set data.{option}.")
    return joined(rows, how, column, origin)


def is_blank(value: Any) -> bool:
    """Returns whether a cell has nothing in it."""
    return value is None or not str(value).strip()


def is_break(row: Mapping[str, Any]) -> bool:
    """Returns whether a row has nothing in it."""
    return all(map(is_blank, row.values()))


def has_blank_rows(rows: Sequence[Mapping[str, Any]], how: Reading) -> bool:
    """Returns whether rows are a word each, with its tag, and some of them blank."""
    words = [row for row in rows if not is_break(row)]
    return len(words) < len(rows) and all(
        len(str(row.get(how.tokens)).split()) == 1
        and (row.get(how.tags) in (None, "O") or is_tag(str(row[how.tags])))
        for row in words
    )


def is_word(value: str) -> bool:
    """Returns whether a value is a word, and not a list that was written as text."""
    return not (value.startswith("[") and value.endswith("]") and len(value) > 2)


def sentence_column(row: Mapping[str, Any]) -> str | None:
    """Returns the only column whose name says that it numbers sentences."""
    found = [name for name in row if SENTENCE.fullmatch(name.strip())]
    return found[0] if len(found) == 1 else None


def joined(
    rows: Iterable[dict[str, Any]], how: Reading, column: str | None, origin: str
) -> Iterator[dict[str, Any]]:
    """Yields sentences of rows with a word each; see `sentences_of_words`."""
    current: Any = None
    row: dict[str, Any] = {}
    seen: set[Any] = set()
    empty = again = 0
    begins = True
    for number, word_row in numbered(rows):
        if not word_row or (column is None and is_break(word_row)):
            begins |= column is None
            continue
        if missing := [c for c in (column, how.tokens) if c is not None and c not in word_row]:
            raise ThawError(f"{origin}: row {number} has no {missing[0]!r}.")
        value = None if column is None else word_row[column]
        if not row and column is not None and is_blank(value):
            raise ThawError(
                f"{origin}: row {number} has no {column!r}, and a sentence begins where it has a "
                "value."
            )
        if begins or (not is_blank(value) and value != current):
            begins = False
            if row:
                yield row
            again += column is not None and value in seen
            seen.add(value)
            current = value
            lists: dict[str, Any] = {c: [] for c in (how.tokens, how.tags) if c in word_row}
            row = Placed({**word_row, **lists}, number)
        word = word_row[how.tokens]
        empty += is_blank(word)
        row[how.tokens].append(EMPTY if is_blank(word) else str(word))
        if how.tags in row:
            row[how.tags].append(word_row.get(how.tags))
    if row:
        yield row
    if empty:
        log.warning("%s: %s empty and read as %r", origin, number_of(empty, "words are"), EMPTY)
    if again:
        log.warning(
            f"{origin}: {again} values of {column!r} return after another one, and begin a new "
            "sentence each time. Are the rows in order?"
        )


def read_words(tokens: Any, tags: Any, where: str) -> tuple[list[str], list[str]]:
    """The words of a row and their tags, as many."""
    if isinstance(tokens, str) or isinstance(tags, str):
        tokens, tags = listed(tokens, tags)
    tokens, tags = strings(tokens, "token", where), strings(tags, "tag", where)
    if len(tokens) != len(tags):
        raise ThawError(f"{where}: {len(tokens)} tokens and {len(tags)} tags.")
    return tokens, tags


def strings(value: Any, name: str, where: str) -> list[str]:
    """Returns the tokens or the tags of a row; raises ThawError unless they are a list of texts."""
    if not isinstance(value, list):
        raise ThawError(
            f"{where}: {name}s are {value!r:.60}; expected a list. Where a row is a word, "
            "data.sentence=<column> names the column that numbers the sentences, or each is "
            "followed by a blank line."
        )
    if wrong := [v for v in value if not isinstance(v, str)]:
        numbers = f" Where numbers stand for names, {OWN_READER}"
        raise ThawError(
            f"{where}: {name} {wrong[0]!r} is no text; tags are names such as B-PER."
            + (numbers if isinstance(wrong[0], int) else "")
        )
    return value


def texts_of_words(rows: Rows, how: Reading, origin: str) -> Rows:
    """Returns rows whose words, of which `task=ner` finds the entities, are joined by spaces to a
    text in their place. Rows that have a column of texts, or no words, are left as they are."""

    def texts() -> Reader:
        head = list(islice(rows, 1))
        if not head or how.text in head[0] or how.tokens not in head[0]:
            yield from chain(head, rows)
            return rows.remarks
        log.info("%s: the words of %r, joined by spaces, are the texts", origin, how.tokens)
        for number, row in numbered(sentences_of_words(chain(head, rows), how, origin)):
            text = joined_words(row.get(how.tokens), f"{origin}: row {number}")
            yield replaced(row, {how.tokens: text})
        return rows.remarks

    return Rows(texts(), rows.remarks.format)


def joined_words(value: Any, where: str) -> str:
    """Returns the words of a row, joined by spaces, as a table may hold them already."""
    if isinstance(value, str) and " " in value and value[:1] != "[":
        return value
    words = as_list(value)
    return " ".join(strings(value if words is None else words, "token", where))


def listed(tokens: Any, tags: Any) -> tuple[Any, Any]:
    """Returns words and tags that a table holds as lists or apart by spaces; others as they are."""
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
