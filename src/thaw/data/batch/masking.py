"""Which tokens a masked language model has to guess (Devlin et al. 2019, section 3.1), and which of
them are one word.

Random numbers are a hash of (seed, epoch, row, position), not a generator's state: a row's masks
depend neither on its batch, nor on workers and ranks, nor on where a run was resumed.

Shapes: B batch, T tokens, N masked tokens of the batch.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thaw.errors import ThawError, require_choice

LONGEST_WORD = 16  # tokens; a longer run (an address, a script without spaces) is cut into several
MASKINGS = ("token", "whole_word")


@dataclass(frozen=True)
class Masking:
    """How tokens are masked; raises ThawError for an argument that is not what it should be.

    Args:
        mask_id: of the mask token.
        ordinary_ids: of the tokens that may replace one at random.
        masking: "token", each on its own; "whole_word", all tokens of a word or none.
        probability: that a token, or a word, is to be guessed.
        split: shares of these that become the mask token, a random token, and stay.
    """

    mask_id: int
    ordinary_ids: np.ndarray
    masking: str = "token"
    probability: float = 0.15
    split: Sequence[float] = (0.8, 0.1, 0.1)

    def __post_init__(self) -> None:
        require_choice("task.masking", self.masking, MASKINGS)
        if not 0 < self.probability < 1:
            raise ThawError(
                f"task.mask_probability={self.probability}: expected a number between 0 and 1, "
                "such as 0.15."
            )
        shares = list(self.split)
        if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ThawError(
                f"task.mask_split={shares}: expected the shares of masked, random and kept tokens, "
                "with the sum 1, such as [0.8,0.1,0.1]."
            )

    def __call__(
        self, ids: np.ndarray, words: np.ndarray, rows: np.ndarray, seed: int, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks a batch.

        Args:
            ids: (B, T) tokens.
            words: (B, T) the number of each token's word in its row, -1 where nothing may be
                masked: special tokens and padding.
            rows: (B,) the number of each row in the data.
            seed: of the masks.
            epoch: of the masks.

        Returns:
            (B, T) tokens with masks in them; (N,) positions to guess in the flattened batch.
        """
        chosen = choose(words, uniform(rows, ids.shape[1], seed, epoch, 0), self)
        masked, random, _ = self.split
        kind = uniform(rows, ids.shape[1], seed, epoch, 1)
        pick = uniform(rows, ids.shape[1], seed, epoch, 2)
        other = self.ordinary_ids[(pick * len(self.ordinary_ids)).astype(np.int64)]
        seen = np.where(kind < masked, self.mask_id, np.where(kind < masked + random, other, ids))
        return np.where(chosen, seen, ids), np.flatnonzero(chosen)


def choose(words: np.ndarray, draws: np.ndarray, masking: Masking) -> np.ndarray:
    """Which tokens are to be guessed, (B, T) of bool, given (B, T) words and uniform numbers.

    Each unit is drawn on its own, so the rate is `probability`; a row long enough to expect one
    unit (7 at 15 %) in which none is drawn gets the one that came closest.
    """
    free = words >= 0
    places = np.broadcast_to(np.arange(words.shape[1]), words.shape)
    if masking.masking == "whole_word":
        # A word's number is drawn at its first token, and holds for all of them.
        starts = np.ones_like(free)
        starts[:, 1:] = words[:, 1:] != words[:, :-1]
        first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
        draws = np.take_along_axis(draws, first, axis=1)
        units = (starts & free).sum(axis=1)
    else:
        units = free.sum(axis=1)
    draws = np.where(free, draws, 2.0)
    chosen = draws < masking.probability
    # At least one: units * probability >= 1, in integers of a thousandth against rounding.
    long_enough = np.round(units * masking.probability, 3) >= 1
    lacking = ~chosen.any(axis=1) & long_enough
    lowest = draws.min(axis=1, keepdims=True, initial=2.0)
    return chosen | (lacking[:, None] & free & (draws == lowest))


def uniform(rows: np.ndarray, tokens: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """Numbers in [0, 1) by hash of (seed, epoch, stream, row, position): (B, tokens) of float64."""
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, epoch, stream):
        key = splitmix(key + np.uint64(part % 2**64))
    key = splitmix(key + rows.astype(np.uint64))[:, None]
    hashed = splitmix(splitmix(key + np.arange(tokens, dtype=np.uint64)))
    return (hashed >> np.uint64(11)) * 2.0**-53


def splitmix(x: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014): bits well mixed."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


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
