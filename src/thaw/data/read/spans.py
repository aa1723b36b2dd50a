"""Text with character spans as words with tags, and words with their places in a text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import regex

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


class Span(NamedTuple):
    """A labelled piece of text: characters `start` to `end`, without the one at `end`."""

    start: int
    end: int
    label: str


def words_of(text: str, fine: bool = True) -> list[tuple[int, int]]:
    """Where the words of a text begin and end.

    Args:
        text: any.
        fine: runs of letters and digits, and single marks, so that few spans cut a word; else
            as corpora of words have them: "U.N.", "AT&T" and "@name" are one word each.
    """
    return [match.span() for match in (WORD if fine else TOKEN).finditer(text)]


def places_of(words: Sequence[str]) -> list[tuple[int, int]]:
    """Where words begin and end in the text that they make joined by spaces."""
    places = []
    at = 0
    for word in words:
        places.append((at, at + len(word)))
        at += len(word) + 1
    return places


def read_spans(value: Any, text: str, where: str) -> list[Span]:
    """The spans of a text, in order.

    Args:
        value: a list of `[start, end, label]` or of mappings with these keys.
        text: they lie in it.
        where: the row, for messages.

    Raises:
        ThawError: a span is neither, is empty, leaves the text or overlaps another.
    """
    spans = sorted(parse(value, where))
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise ThawError(
                f"{where}: span {list(span)} is empty or leaves the text of {len(text)} characters."
            )
    for one, two in pairwise(spans):
        if two.start < one.end:
            raise ThawError(f"{where}: spans {list(one)} and {list(two)} overlap.")
    return spans


def parse(value: Any, where: str) -> Iterator[Span]:
    """Spans as they are written."""
    if value is not None and not isinstance(value, list):
        raise ThawError(f"{where}: spans are {value!r:.60}; expected a list.")
    for item in value or []:
        try:
            if isinstance(item, Mapping):
                start, end, label = item["start"], item["end"], item["label"]
            else:
                start, end, label = item
            if not isinstance(label, str) or type(start + end) is not int:
                raise ValueError
            if not label.strip() or label == "O" or label[:2] in ("B-", "I-"):
                raise ThawError(f"{where}: span {item!r}: {label!r} is no type such as PER.")
            yield Span(start, end, label.strip())
        except (TypeError, ValueError, KeyError):
            raise ThawError(
                f"{where}: span {item!r}; expected [start, end, label] or "
                '{"start": 0, "end": 7, "label": "PER"}.'
            ) from None


def tags_of(
    words: Sequence[tuple[int, int]], spans: Sequence[Span], where: str
) -> tuple[list[str], list[Span]]:
    """IOB2 tags of words, and the spans that cut a word and were widened to it.

    Args:
        words: where they begin and end.
        spans: in order, without overlap.
        where: the row, for messages.

    Raises:
        ThawError: a span holds no word, or two cut the same one.
    """
    tags = ["O"] * len(words)
    cut = []
    for span in spans:
        inside = [i for i, (a, b) in enumerate(words) if a < span.end and span.start < b]
        if not inside:
            raise ThawError(f"{where}: span {list(span)} holds no word.")
        if tags[inside[0]] != "O":
            a, b = words[inside[0]]
            raise ThawError(
                f"{where}: two spans share the word at {a} to {b}, one is {list(span)}."
            )
        if words[inside[0]][0] < span.start or words[inside[-1]][1] > span.end:
            cut.append(span)
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.label}"
    return tags, cut
