"""Text with character spans as words with tags, and words with their places in a text."""

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import regex

from thaw.data.read.literals import literal
from thaw.errors import ThawError

# Scripts that are written without spaces give a word a character, as BERT's tokenizer does.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
RUN = rf"(?:(?!{UNSPACED})[\w\p{{M}}])+"
WORD = regex.compile(rf"{UNSPACED}\p{{M}}*|{RUN}|(?!\s)\X")
# Addresses, @names and #tags, abbreviations, and words with a mark inside are one word.
TOKEN = regex.compile(
    rf"(?:https?://|www\.)\S+|[@#]{RUN}|(?:\p{{L}}\.){{2,}}|{UNSPACED}\p{{M}}*"
    rf"|{RUN}(?:[-'’.,&/:_]{RUN})*|(?!\s)\X"
)
Overlaps = Literal["error", "longest"]


class Span(NamedTuple):
    """A labelled piece of text: characters `start` to `end`, without the one at `end`."""

    start: int
    end: int
    label: str


def words_of(text: str, fine: bool = True) -> list[tuple[int, int]]:
    """Returns where the words of a text begin and end: runs of letters and digits, and single
    marks, so that few spans cut a word; or, not `fine`, words as corpora have them, such as "U.N.",
    "AT&T" and "@name"."""
    return [match.span() for match in (WORD if fine else TOKEN).finditer(text)]


def places_of(words: Sequence[str]) -> list[tuple[int, int]]:
    """Returns where words begin and end in the text that they make joined by spaces."""
    places = []
    at = 0
    for word in words:
        places.append((at, at + len(word)))
        at += len(word) + 1
    return places


def read_spans(value: Any, text: str, where: str, overlaps: Overlaps = "error") -> list[Span]:
    """Returns the spans of a text, in order, from a list as thaw or a tool writes it (`parts_of`);
    raises ThawError if one is none, is empty, leaves the text, is not the text that it says, or
    overlaps another, unless `overlaps` is "longest"."""
    spans = sorted(parse(value, text, where))
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise ThawError(
                f"{where}: span {list(span)} is empty or leaves the text of {len(text)} characters."
            )
    for one, two in pairwise(spans):
        if two.start < one.end and overlaps == "error":
            raise ThawError(
                f"{where}: spans {list(one)} and {list(two)} overlap. data.overlaps=longest keeps "
                "the longest of them."
            )
    return spans


def longest(spans: Sequence[Span]) -> list[Span]:
    """Returns spans without those that overlap a longer one, or one as long before it."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        place = bisect(kept, span)
        before = kept[place - 1].end if place else 0
        after = kept[place].start if place < len(kept) else span.end
        if before <= span.start and span.end <= after:
            kept.insert(place, span)
    return kept


def parse(given: Any, text: str, where: str) -> Iterator[Span]:
    """Yields spans as they are written, by thaw or by a tool; see `parts_of`."""
    value = given
    if isinstance(given, str):  # a cell of a table
        value = literal(given) if given.strip() else None
        value = given if value is None and given.strip() else value
    if value is not None and not isinstance(value, list):
        raise ThawError(f"{where}: spans are {given!r:.60}; expected a list.")
    for item in value or []:
        try:
            start, end, labels = parts_of(item)
            if type(start + end) is not int or not all(isinstance(v, str) for v in labels):
                raise ValueError
            if isinstance(item, Mapping) and isinstance(item.get("text"), str):
                start, end = places_in(text, start, end, item["text"], where)
            for label in labels:
                if not label.strip() or label == "O" or label[:2] in ("B-", "I-"):
                    raise ThawError(f"{where}: span {item!r}: {label!r} is no type such as PER.")
                yield Span(start, end, label.strip())
        except (TypeError, ValueError, KeyError):
            raise ThawError(
                f"{where}: span {item!r}; expected [start, end, label] or "
                '{"start": 0, "end": 7, "label": "PER"}.'
            ) from None


def parts_of(item: Any) -> tuple[int, int, Sequence[Any]]:
    """Returns start, end and labels of a span, whatever the tool that wrote it calls them."""
    if not isinstance(item, Mapping):
        start, end, label = item
        return start, end, [label]
    start, end = ("start", "end") if "start" in item else ("start_offset", "end_offset")
    labels = item.get("labels") or [item["label" if "label" in item else "type"]]
    return item[start], item[end], labels


def places_in(text: str, start: int, end: int, said: str, where: str) -> tuple[int, int]:
    """Returns start and end in characters of a span that says what its text is: browsers count in
    units of UTF-16, in which an emoji is two."""
    if text[start:end].split() == said.split():
        return start, end
    units = text.encode("utf-16-le", "surrogatepass")
    first = len(units[: 2 * start].decode("utf-16-le", "ignore"))
    last = len(units[: 2 * end].decode("utf-16-le", "ignore"))
    if text[first:last].split() == said.split():
        return first, last
    raise ThawError(
        f"{where}: span {[start, end]} says {said!r}, and there stands {text[start:end]!r}. Are "
        "start and end counted in characters of this very text?"
    )


def tags_of(
    words: Sequence[tuple[int, int]],
    spans: Sequence[Span],
    where: str,
    overlaps: Overlaps = "error",
) -> tuple[list[str], list[Span]]:
    """Returns IOB2 tags of words, and the spans that cut a word and were widened to it.

    Spans are in order. Where two cut one word, `overlaps="longest"` gives it to the first. Raises
    ThawError otherwise, and where a span holds no word.
    """
    tags = ["O"] * len(words)
    cut = []
    for span in spans:
        inside = [i for i, (a, b) in enumerate(words) if a < span.end and span.start < b]
        if not inside:
            raise ThawError(f"{where}: span {list(span)} holds no word.")
        if tags[inside[0]] != "O" and overlaps == "longest":
            inside = [i for i in inside if tags[i] == "O"]
            if not inside:
                continue
        elif tags[inside[0]] != "O":
            a, b = words[inside[0]]
            raise ThawError(
                f"{where}: two spans share the word at {a} to {b}, one is {list(span)}. "
                "data.overlaps=longest gives it to the first of them."
            )
        if words[inside[0]][0] < span.start or words[inside[-1]][1] > span.end:
            cut.append(span)
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.label}"
    return tags, cut
