"""Rows of tokens: texts dealt out to the tokenizer, put together into blocks, padded to batches.

Shapes: B batch, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")
TEXTS, CHARACTERS = 1000, 1_000_000  # that are tokenized at once: what a tokenizer holds is larger
Row = tuple[list[int], list[int]]  # tokens, and the number of each one's word, -1: special


def portions(texts: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Texts to tokenize at once: `TEXTS`, or fewer that are long together, by `size` of each."""
    part: list[T] = []
    total = 0
    for text in texts:
        part.append(text)
        total += size(text)
        if len(part) == TEXTS or total > CHARACTERS:
            yield part
            part, total = [], 0
    if part:
        yield part


def blocks(rows: Iterable[tuple[Any, Row]], size: int, separator: int | None) -> Iterator[Row]:
    """Documents one after the other, cut into blocks of `size` tokens; the last may be shorter.

    Rows are a document, and tokens and words of a part of it. `separator` is a token between two
    documents, with which a block never begins; None: nothing is between them.
    """
    ids: list[int] = []
    words: list[int] = []
    shift = 0  # words go on counting where those of the text before stopped
    last: Any = None
    for document, (tokens, numbers) in rows:
        if ids and document != last and separator is not None:
            ids.append(separator)
            words.append(-1)
        last = document
        ids += tokens
        words += [n + shift if n >= 0 else -1 for n in numbers]
        shift += max(numbers, default=0) + 1
        done = len(ids) - len(ids) % size
        for begin in range(0, done, size):
            yield ids[begin : begin + size], words[begin : begin + size]
        ids, words = ids[done:], words[done:]
    if ids:
        yield ids, words


def padded(rows: list[Row], numbers: list[int], pad: int) -> dict[str, torch.Tensor]:
    """A batch of rows; without `attention_mask` where no row needs padding."""
    lengths = np.array([len(ids) for ids, _ in rows])
    shape = (len(rows), int(lengths.max()))
    ids, words = np.full(shape, pad, np.int64), np.full(shape, -1, np.int64)
    for i, (row, numbered) in enumerate(rows):
        ids[i, : len(row)], words[i, : len(row)] = row, numbered
    batch = {"input_ids": ids, "words": words, "row": np.array(numbers, np.int64)}
    if lengths.min() < shape[1]:
        batch["attention_mask"] = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    return {name: torch.from_numpy(value) for name, value in batch.items()}
