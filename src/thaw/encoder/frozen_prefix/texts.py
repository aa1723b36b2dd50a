"""Texts as the pass that computes the states of frozen blocks sees them.

Shapes: B batch, T tokens.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

TOKENS = 8192  # of a batch
DIGEST = 16  # bytes of a text's hash
INPUTS = ("input_ids", "token_type_ids")  # all that decides a text's states


def digest(columns: Iterable[Any]) -> bytes:
    """Returns the hash of a text's token ids, and of its token types where it has them."""
    parts = (np.asarray(column, dtype=np.int64).tobytes() for column in columns)
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST).digest()


def encoder_inputs(rows: Any) -> Iterator[dict[str, Sequence[int]]]:
    """Yields the encoder's inputs for each text of a split, windows one by one."""
    keys = [key for key in INPUTS if key in rows.column_names]
    for row in zip(*(rows[key] for key in keys), strict=True):
        nested = isinstance(row[0][0], list)
        for text in zip(*row, strict=True) if nested else [row]:
            yield dict(zip(keys, text, strict=True))


def batches(
    order: Sequence[bytes], texts: Mapping[bytes, Mapping[str, Sequence[int]]]
) -> Iterator[list[bytes]]:
    """Yields texts, longest first, in batches of about `TOKENS` tokens."""
    begin = 0
    while begin < len(order):
        count = max(1, TOKENS // len(texts[order[begin]]["input_ids"]))
        yield list(order[begin : begin + count])
        begin += count


def pad(texts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Returns a batch of texts, padded on the right: (B, T) each."""
    width = max(len(text["input_ids"]) for text in texts)
    out = {
        key: torch.tensor([[*text[key], *[0] * (width - len(text[key]))] for text in texts])
        for key in texts[0]
    }
    lengths = torch.tensor([len(text["input_ids"]) for text in texts])
    return out | {"attention_mask": (torch.arange(width) < lengths[:, None]).long()}
