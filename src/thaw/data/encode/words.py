"""Numbers the words of tokenized texts."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from thaw.data.batch.masking import LONGEST_WORD


def word_numbers(
    text: str, offsets: Sequence[tuple[int, int]], word_ids: Sequence[int | None]
) -> list[int]:
    """The number of each token's word, -1 of special tokens; the same notion for every tokenizer.

    The tokenizer's own words are not enough: SentencePiece's hold punctuation ("film."), or all of
    a sentence where it does not split at spaces. So a word also ends where its text does: at a
    space, at punctuation (a word of its own, as in BERT's) and between ideographs.
    """
    words: list[int] = []
    word, size, before = -1, 0, None
    begin_before = end = 0
    for (begin, stop), word_id in zip(offsets, word_ids, strict=True):
        if word_id is None:
            words.append(-1)
            before = None
            continue
        joined = (
            before is not None
            and (
                begin < end  # bytes of one character
                or (word_id == before and not text[begin_before:end].strip())  # a lone "▁" before
                or (word_id == before and inner(text[begin - 1]) and inner(text[begin : begin + 1]))
            )
        )
        if joined and size < LONGEST_WORD:
            size += 1
        else:
            word, size = word + 1, 1
        words.append(word)
        before, begin_before, end = word_id, begin, max(stop, begin)
    return words


@lru_cache(4096)
def inner(character: str) -> bool:
    """Whether a word goes on over a character: letters, marks and digits, but no ideographs."""
    if not character or unicodedata.category(character)[0] not in "LMN":
        return False
    point = ord(character)
    return not (
        0x3400 <= point <= 0x9FFF or 0xF900 <= point <= 0xFAFF or 0x20000 <= point <= 0x323AF
    )
