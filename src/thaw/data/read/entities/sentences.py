"""Sentences with entity tags out of rows, checked and in IOB2."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thaw.data.read.entities.spans import (
    Overlaps,
    longest,
    places_of,
    read_spans,
    tags_of,
    words_of,
)
from thaw.data.read.entities.tag_schemes import find_scheme, is_tag, to_iob2
from thaw.data.read.entities.word_rows import read_words, sentence_column
from thaw.data.read.formats.own import OWN_READER
from thaw.data.read.header import header_hint
from thaw.data.read.row_values import GroupReader, as_text
from thaw.data.read.rows import Remarks, numbered, warn_of
from thaw.data.read.texts import Source, Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


@dataclass
class Sentences(Texts):
    """Sentences of one split; `texts` holds the words of each, `labels` their tags in IOB2."""

    originals: list[str] = field(default_factory=list)  # the text of each sentence
    # Where each word begins and ends in its text.
    places: list[list[tuple[int, int]]] = field(default_factory=list)
    from_spans: bool = False  # whether the words were made from text, see `spans.words_of`


def read_sentences(
    rows: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
    scheme: str | None,
    origin: str,
    overlaps: Overlaps = "error",
) -> Sentences:
    """Sentences out of rows with words and tags, or with text and spans.

    Args:
        rows: mappings of column to value; `line` is that of the first word, in a column file.
        names: which columns are `tokens` and `tags`, or `text` and `spans`; and `group`, whose
            values never fall into two splits, if there is one.
        scheme: of the tags, one of `SCHEMES`; None: found from them.
        origin: a file or data set, for messages.
        overlaps: what becomes of spans that overlap, see `read_spans`.
    """
    out = Sentences(origin=origin)
    texts: list[tuple[str, ...]] = []
    lines: list[int] = []
    empty = total = overlapping = 0
    cut: list[str] = []
    groups = GroupReader(names["group"], origin) if "group" in names else None
    spans, needed = False, ("tokens", "tags")
    count = 0
    for number, row in numbered(rows):
        count += 1
        where = f"{origin}: line {row['line']}" if "line" in row else f"{origin}: row {number}"
        where += f" ({row['document']})" if "document" in row else ""
        if count == 1 and (spans := require_columns(row, names, origin)):
            needed = ("text", "spans")
        if missing := [names[n] for n in (*needed, "group") if n in names and names[n] not in row]:
            raise ThawError(f"{where} has no {missing[0]!r}; it has {', '.join(map(repr, row))}.")
        if spans:
            text = as_text(row[names["text"]], names["text"], where)
            places = words_of(text)
            given = read_spans(row[names["spans"]], text, where, overlaps)
            found = longest(given) if overlaps == "longest" else given
            tags, widened = tags_of(places, found, where, overlaps)
            overlapping += len(given) - sum(tag[0] == "B" for tag in tags)
            words = [text[a:b] for a, b in places]
            total += len(found)
            cut += [f"{where}, {text[s.start : s.end]!r}" for s in widened]
        else:
            words, tags = read_words(row[names["tokens"]], row[names["tags"]], where)
            text, places = " ".join(words), places_of(words)
        if not words:
            empty += 1
            continue
        texts.append(tuple(words))
        out.labels.append(tags)
        out.originals.append(text)
        out.places.append(places)
        if groups is not None:
            out.groups.append(groups.read(row, number, tuple(words)))
        lines.append(row.get("line", -number))
    out.texts = texts
    if not texts:
        raise ThawError(f"{origin} has no sentence with a word.")
    if groups is not None:
        groups.finish()
    reasons = {"sentences without a word": empty, "spans overlapped by a longer one": overlapping}
    left_out = Remarks(reasons).left_out
    warn_of(left_out, origin)
    if cut:
        log.warning(
            f"{origin}: {len(cut)} of {total} spans cut a word and were widened to whole words; "
            f"the first: {cut[0]}. Are start and end counted in characters, not bytes or UTF-16 "
            "units?"
        )
    out.from_spans = spans
    columns = {option: [names[option]] for option in (*needed, "group") if option in names}
    out.source = Source(origin, columns, count, left_out, kept=len(texts))
    if not spans:
        convert(out, lines, scheme)
    return out


def require_columns(row: Mapping[str, Any], names: Mapping[str, str], origin: str) -> bool:
    """Whether rows hold spans; a ThawError where they hold neither these nor tags."""
    there = ", ".join(map(repr, row))
    if "group" in names and names["group"] not in row:
        raise ThawError(f"{origin} has no column {names['group']!r}; it has {there}.")
    if names["tokens"] in row and names["tags"] in row:
        return False
    if names["text"] in row and names["spans"] in row:
        return True
    raise ThawError(
        f"task=ner needs a column of words and one of tags ({names['tokens']}, {names['tags']}), "
        f"or text and spans ({names['text']}, {names['spans']}); {origin} has {there}. Name them "
        "with data.tokens=, data.tags=, data.text=, data.spans=, or try data=wnut16. Where it has "
        f"none, {OWN_READER}" + (header_hint(row) or word_hint(row))
    )


def word_hint(row: Mapping[str, Any]) -> str:
    """Returns what to type where a row seems to be a word, with a space before it; else ""."""
    column = sentence_column(row)
    if column is None or isinstance(row[column], list):
        return ""
    return (
        f" A row seems to be a word, and {column!r} to number the sentences: data.tokens= and "
        "data.tags= name the columns of words and of tags."
    )


def convert(sentences: Sentences, lines: Sequence[int], scheme: str | None) -> None:
    """Brings tags into IOB2, in place; breaches of a given scheme are errors, others are counted.

    `lines` are those of the first word of each sentence; negative ones are numbers of rows.
    """

    def where(number: int, place: int) -> str:
        line = lines[number]
        spot = f"line {line + place}" if line > 0 else f"row {-line}, word {place + 1}"
        return f"{sentences.origin}: {spot} ({sentences.texts[number][place]})"

    bare = scheme == "io" and not any(is_tag(t) for tags in sentences.labels for t in tags)
    found = "io" if bare else find_scheme(sentences.labels, where)
    if scheme == "io" and found != "io":
        raise ThawError(
            f"{sentences.origin}: data.scheme=io is for bare types, and tags here look like "
            f"{found}. Leave data.scheme out."
        )
    used = scheme or found
    broken = 0
    for number, tags in enumerate(sentences.labels):
        sentences.labels[number], places = to_iob2(tags, used)
        if places and scheme is not None:
            raise ThawError(
                f"{where(number, places[0])}: tag {tags[places[0]]!r} breaks data.scheme={scheme}; "
                f"the tags look like {found}. Without data.scheme they are read as that, and what "
                "breaks it is counted."
            )
        broken += len(places)
    log.info(
        "%s: tags are %s%s", sentences.origin, used, "" if used == "iob2" else ", read as iob2"
    )
    if broken:
        log.warning("%s: %d tags break %s and start an entity", sentences.origin, broken, used)
