"""Long texts, cut or in windows that a model can take, and sentences in windows; one that fits is
one window.

Shapes: T tokens.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import pre_tokenizers

from thaw.data.read.entities.tag_schemes import split_tag

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


def in_windows(
    tokenizer: Any, texts: Sequence[Any], max_tokens: int, stride: int, **options: bool
) -> tuple[Any, list[list[int]]]:
    """Returns the model's inputs of texts in windows of at most `max_tokens` tokens, special ones
    included, of which neighbours share `stride`; and the indices of each text's windows in them."""
    encoded: Any = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_tokens,
        stride=stride,
        return_overflowing_tokens=True,
        **options,
    )
    indices: list[list[int]] = [[] for _ in texts]
    for index, text in enumerate(encoded.pop("overflow_to_sample_mapping")):
        indices[text].append(index)
    return encoded, indices


def text_windows(
    tokenizer: Any, texts: Sequence[str], max_tokens: int, stride: int
) -> tuple[Rows, list[int]]:
    """Returns the model's inputs of texts `in_windows`: for each text a list of its windows, which
    are lists of T numbers each; and the lengths of whole texts."""
    encoded, indices = in_windows(tokenizer, texts, max_tokens, stride)
    columns = {k: [[pieces[i] for i in own] for own in indices] for k, pieces in encoded.items()}
    shared = stride + tokenizer.num_special_tokens_to_add()
    lengths = [sum(map(len, w)) - (len(w) - 1) * shared for w in columns["input_ids"]]
    return columns, lengths


def prefix_spaces(tokenizer: Any) -> None:
    """Makes a byte-level tokenizer see a space before every word, as it does within a text.

    Else words of a list would be glued together: "New York" read as "NewYork".
    """
    top = tokenizer.backend_tokenizer.pre_tokenizer
    parts: Any = top if isinstance(top, pre_tokenizers.Sequence) else [top]
    for part in parts:
        if isinstance(part, pre_tokenizers.ByteLevel):
            part.add_prefix_space = True


def windows(
    tokenizer: Any, sentences: Sequence[Sequence[str]], max_tokens: int, stride: int
) -> list[list[dict[str, list]]]:
    """Returns each sentence, its words, `in_windows`: the model's inputs and `word_ids`, T long
    each.

    A word belongs to the one window that sees most around its first subword: `word_ids` are None
    at the tokens of words that belong to another. A word that the tokenizer turns into nothing is
    read as its unknown token, so that it keeps its place.
    """
    words = [list(sentence) for sentence in sentences]
    for _ in range(2):
        encoded, indices = in_windows(
            tokenizer, words, max_tokens, stride, is_split_into_words=True
        )
        ids = [[encoded.word_ids(i) for i in own] for own in indices]
        seen = [set[int | None]().union(*own) for own in ids]
        lost = [(i, w) for i, s in enumerate(words) for w in range(len(s)) if w not in seen[i]]
        if not lost:
            break
        for i, w in lost:
            words[i][w] = tokenizer.unk_token or tokenizer.mask_token or tokenizer.sep_token
    return [
        [
            {key: pieces[i] for key, pieces in encoded.items()} | {"word_ids": word_ids}
            for i, word_ids in zip(own, owned(of_words, stride), strict=True)
        ]
        for own, of_words in zip(indices, ids, strict=True)
    ]


def owned(pieces: Sequence[Sequence[int | None]], stride: int) -> list[list[int | None]]:
    """Returns the word ids of a sentence's windows, each word in one window only."""
    if len(pieces) == 1:
        return [list(pieces[0])]
    best: dict[int, tuple[float, int]] = {}
    before: int | None = None  # the word just before this window
    for number, piece in enumerate(pieces):
        content = [word for word in piece if word is not None]
        for at, word in enumerate(content):
            if word == (content[at - 1] if at else before):
                continue  # not its first subword
            left = at if number else float("inf")
            right = len(content) - 1 - at if number < len(pieces) - 1 else float("inf")
            if word not in best or min(left, right) > best[word][0]:
                best[word] = (min(left, right), number)
        before = content[-stride - 1] if len(content) > stride else None
    return [
        [word if word is not None and best[word][1] == number else None for word in piece]
        for number, piece in enumerate(pieces)
    ]


def align(word_ids: Sequence[int | None], tags: Sequence[str], label_subwords: str) -> list[str]:
    """Returns the tag of each subword; "" for those that train and score nothing.

    The first subword of a word has the word's tag. The others have I- of the same type with
    `label_subwords="all"`, and none with "first". Special tokens (word None) have none.
    """
    out = []
    for word, first in zip(word_ids, firsts(word_ids), strict=True):
        if word is None or (first < 0 and label_subwords == "first"):
            out.append("")
        elif first >= 0:
            out.append(tags[word])
        else:
            _, kind = split_tag(tags[word])
            out.append(f"I-{kind}" if kind else "O")
    return out


def firsts(word_ids: Sequence[int | None]) -> list[int]:
    """Returns the word of each token that is a word's first, -1 at others."""
    return [
        -1 if word is None or (at and word_ids[at - 1] == word) else word
        for at, word in enumerate(word_ids)
    ]
