"""Tagging schemes: found from the tags, and converted to IOB2.

IOB1 and IOB2 as named by Tjong Kim Sang and Veenstra 1999; IOBES, with other letters BILOU, as in
Ratinov and Roth 2009; BMES and BMEWO, of Chinese corpora, are IOBES with M for I, and W for S.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

from thaw.errors import ThawError

Scheme = Literal["iob1", "iob2", "iobes", "bilou", "bmes", "bmewo", "io"]
SCHEMES = get_args(Scheme)
CLOSED = ("iobes", "bilou", "bmes", "bmewo")  # an entity's last word has a tag of its own
TAGGED = tuple(f"{letter}-" for letter in "BIESLUMW")
SAME = {"L": "E", "U": "S", "M": "I", "W": "S"}
MEANING = (
    "O, or B- or I- and a type (IOB1, IOB2), with E- and S- (IOBES), L- and U- (BILOU), or M- for "
    "I- (BMES, BMEWO)"
)
FEW = 50  # types that a file of bare types has at most


def is_tag(tag: str) -> bool:
    """Returns whether a field is a tag with a prefix, and not O or a bare type."""
    return tag[:2] in TAGGED and len(tag) > 2


def split_tag(tag: str, scheme: str = "iob2") -> tuple[str, str]:
    """Returns prefix and type of a tag: ("B", "PER"); ("O", "") of O; ("I", "PER") of PER in IO."""
    if tag == "O":
        return "O", ""
    if scheme == "io":
        return "I", tag
    prefix, _, kind = tag.partition("-")
    return prefix, kind


def find_scheme(sentences: Sequence[Sequence[str]], where: Callable[[int, int], str]) -> str:
    """Returns the scheme that tags are in; raises ThawError for a tag of no scheme.

    Closing tags tell IOBES and BILOU; an entity that starts with I- tells IOB1, unless a B- stands
    where IOB1 has none: after another type or O. `where` says in words where a tag is, by number of
    sentence and of word.
    """
    found: set[str] = set()
    opened_by_i = opened_by_b = False
    for number, tags in enumerate(sentences):
        last = ""
        for place, tag in enumerate(tags):
            prefix, kind = split_tag(tag)
            if tag != "O" and not is_tag(tag):
                hint = hint_of(tag, sentences)
                raise ThawError(f"{where(number, place)}: tag {tag!r}; expected {MEANING}.{hint}")
            found.add(prefix)
            opened_by_i |= prefix == "I" and kind != last
            opened_by_b |= prefix == "B" and kind != last
            last = kind
    if found & {"L", "U"}:
        return "bilou"
    if found & {"M", "W"}:
        return "bmewo" if "W" in found else "bmes"
    if found & {"E", "S"}:
        return "iobes"
    return "iob1" if opened_by_i and not opened_by_b else "iob2"


def hint_of(tag: str, sentences: Iterable[Sequence[str]]) -> str:
    """Returns what a wrong tag may be meant to be: a sentence with a space before it, or ""."""
    for pattern, spelled in (
        (r"([BIESLUMW])[_/:](.+)", r"\1-\2"),
        (r"(.+)-([BIESLUMW])", r"\2-\1"),
    ):
        if found := re.fullmatch(pattern, tag):
            return f" Write it {found.expand(spelled)}."
    if re.fullmatch(r"[bieslumw]-.+", tag):
        return f" Write it {tag[0].upper()}{tag[1:]}."
    kinds = {tag for tags in sentences for tag in tags}
    bare = "O" in kinds and len(kinds) <= FEW and not any("-" in kind for kind in kinds)
    if bare and all(re.fullmatch(r"[^\W\d_][\w.&/]*", kind) for kind in kinds):
        return " Bare types are read with data.scheme=io."
    return " Is that the column of tags?" if "-" not in tag else ""


def to_iob2(tags: Sequence[str], scheme: str) -> tuple[list[str], list[int]]:
    """Returns IOB2 tags of a sentence, and the places where the given ones break their scheme.

    As in conlleval, a tag that cannot continue an entity starts one.
    """
    out: list[str] = []
    broken: list[int] = []
    last, last_kind = "O", ""
    for place, tag in enumerate(tags):
        prefix, kind = split_tag(tag, scheme)
        foreign = scheme != "io" and prefix not in f"O{scheme.upper()}"  # named by its letters
        prefix = SAME.get(prefix, prefix)
        goes_on = prefix in "IE" and last in "BI" and kind == last_kind
        unclosed = scheme in CLOSED and last in "BI" and not goes_on
        if foreign or unclosed or (not goes_on and not may_start(prefix, kind, last_kind, scheme)):
            broken.append(place)
        out.append("O" if prefix == "O" else f"{'I' if goes_on else 'B'}-{kind}")
        last, last_kind = prefix, kind
    if scheme in CLOSED and last in "BI" and tags:
        broken.append(len(tags) - 1)
    return out, broken


def may_start(prefix: str, kind: str, last_kind: str, scheme: str) -> bool:
    """Returns whether a tag that continues nothing is allowed where it is."""
    if scheme in ("iob1", "io"):
        return prefix in "OI" or kind == last_kind
    return prefix in "OBS"
