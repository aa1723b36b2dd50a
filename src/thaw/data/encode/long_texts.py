"""Texts that are longer than a model reads: cut, or in windows that overlap.

Shapes: T tokens.
"""

from collections.abc import Sequence
from typing import Any

Rows = dict[str, list]  # columns of the same length


def cut_texts(
    tokenizer: Any, texts: Sequence[list[str]], max_tokens: int
) -> tuple[Rows, list[int]]:
    """Returns the model's inputs of a list of texts, or of two for pairs, cut at `max_tokens`: a
    list of T numbers for each text; and the lengths before the cut."""
    columns = {k: list(v) for k, v in tokenizer(*texts, verbose=False).items()}
    lengths = [len(tokens) for tokens in columns["input_ids"]]
    long = [i for i, length in enumerate(lengths) if length > max_tokens]
    if long:
        parts = ([column[i] for i in long] for column in texts)
        short = tokenizer(*parts, truncation=True, max_length=max_tokens)
        for key, values in short.items():
            for i, value in zip(long, values, strict=True):
                columns[key][i] = value
    return columns, lengths


def text_windows(
    tokenizer: Any, texts: Sequence[str], max_tokens: int, stride: int
) -> tuple[Rows, list[int]]:
    """Returns the model's inputs of texts in windows of at most `max_tokens` tokens, special ones
    included, of which neighbours share `stride`: for each text a list of its windows, which are
    lists of T numbers each; and the lengths of whole texts."""
    encoded: Any = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_tokens,
        stride=stride,
        return_overflowing_tokens=True,
    )
    owners = encoded.pop("overflow_to_sample_mapping")
    columns: Rows = {key: [[] for _ in texts] for key in encoded}
    for key, pieces in encoded.items():
        for owner, piece in zip(owners, pieces, strict=True):
            columns[key][owner].append(piece)
    shared = stride + tokenizer.num_special_tokens_to_add()
    lengths = [sum(map(len, w)) - (len(w) - 1) * shared for w in columns["input_ids"]]
    return columns, lengths
