"""Words with entity tags for `task=ner`.

Shapes: B windows, T tokens, C labels. A window is a piece of a sentence that the model can take; a
sentence that fits is one window.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch.nn.utils.rnn import pad_sequence

from thaw.data.base import EncoderData
from thaw.data.encode.blocks import portions
from thaw.data.encode.token_cache import Rows
from thaw.data.encode.windows import align, firsts, prefix_spaces, windows
from thaw.data.entities import entities
from thaw.data.loaders import rowwise
from thaw.data.read.entities.sentences import Sentences, read_sentences
from thaw.data.read.entities.spans import Overlaps
from thaw.data.read.entities.tag_schemes import SCHEMES, Scheme, split_tag
from thaw.data.read.labels.names import names_of
from thaw.data.read.rows import Row, number_of
from thaw.errors import ThawError, require_choice

log = logging.getLogger(__name__)

IGNORED = -100  # what cross_entropy leaves out


class TokenData(EncoderData):
    """Reads, checks, encodes and batches sentences with tags, as `conf/data/files.yaml` says.

    Args:
        label_subwords: see `thaw.data.encode.windows.align`.
    """

    example = ", such as data=conll data.train=train.txt data.test=test.txt"

    def __init__(
        self,
        tokens: str = "tokens",
        tags: str = "tags",
        text: str = "text",
        spans: str = "spans",
        token_column: int = 0,
        tag_column: int = -1,
        scheme: Scheme | None = None,
        sentence: str | None = None,
        overlaps: Overlaps = "error",
        group: str | None = None,
        stride: int | None = None,
        label_subwords: Literal["all", "first"] = "all",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not self.tokenizer.is_fast:
            raise ThawError(
                f"{options['tokenizer']} has no tokenizer.json, which task=ner needs to know the "
                "tokens of each word. task=sequence takes such a model; for task=ner name another "
                "model.checkpoint."
            )
        prefix_spaces(self.tokenizer)
        columns: dict[str, Any] = {"tokens": tokens, "tags": tags, "text": text, "spans": spans}
        self.names = columns | ({} if group is None else {"group": group})
        columns |= {"token_column": token_column, "tag_column": tag_column, "sentence": sentence}
        self.reading = replace(self.reading, words=True, scheme=scheme, **columns)
        self.scheme = scheme
        self.overlaps: Overlaps = overlaps
        self.stride = self.window_stride(stride)
        self.label_subwords = label_subwords
        require_choice("data.scheme", scheme, (None, *SCHEMES))
        require_choice("data.overlaps", overlaps, get_args(Overlaps))
        require_choice("task.label_subwords", label_subwords, ("all", "first"))

    def find_labels(self) -> None:
        found = {split: types_of(rows.labels) for split, rows in self.rows.items()}
        types = sorted(set().union(*found.values()))
        if self.trained is not None:
            self.labels = names_of(self.trained)
            check_types(self.rows, found, self.labels)
        else:
            self.labels = ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
        if self.only is None:
            if not (train := found["train"]):
                raise ThawError(
                    f"{self.rows['train'].origin}: train has no entity; every tag is O."
                )
            for kind in (kind for kind in types if kind not in train):
                splits = ", ".join(f"{found[s][kind]} in {s}" for s in found if found[s][kind])
                log.warning(
                    "entities of type %s are not in train, and cannot be found: %s", kind, splits
                )
        for split in found:
            if not found[split]:
                log.warning("%s has no entity: its scores say nothing", split)

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """Windows of a long text share as many tokens in transformers' pipeline as in training."""
        return {"stride": self.stride}

    def pick(self, rows: Iterable[Row], origin: str) -> Sentences:
        return read_sentences(rows, self.names, self.scheme, origin, self.overlaps)

    def strata(self, rows: Sentences) -> list[list[str]]:
        """Returns the entity types of each sentence."""
        return [sorted({entity.type for entity in entities(tags)}) for tags in rows.labels]

    def counts(self, rows: Sentences) -> Counter[str]:
        """Returns how many entities there are of each type."""
        return types_of(rows.labels)

    def task_kwargs(self) -> dict[str, Any]:
        """Returns labels, the number of tokens of train with each, and how words are split."""
        fine = next(iter(self.rows.values())).from_spans
        given: dict[str, Any] = {"labels": self.labels, "fine_words": fine}
        if "train" in self.encoded:
            pieces = (piece for row in self.encoded["train"]["labels"] for piece in row)
            counts = Counter(label for piece in pieces for label in piece)
            given["label_counts"] = [counts[i] for i in range(len(self.labels))]
        return given

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        return {
            "task": "ner",
            "max_tokens": self.max_tokens,
            "stride": self.stride,
            "labels": self.labels,
            "label_subwords": self.label_subwords,
            "unknown": self.tokenizer.unk_token,
            "windows apart": split == "train",
        }

    def tokenize(self, rows: Sentences, split: str) -> Iterator[tuple[Rows, dict[str, int]]]:
        """Yields encoded windows, and how many words and entities no window covers: in train a
        window a row, in other splits a sentence with its windows, so that it is scored whole."""
        ids = {name: i for i, name in enumerate(self.labels)} | {"": IGNORED}
        statistics = {"long": 0, "uncovered": 0, "lost": 0}
        begin = 0
        for part in portions(rows.texts, lambda words: sum(map(len, words))):
            out: Rows = {}
            for row, pieces in enumerate(
                windows(self.tokenizer, part, self.max_tokens, self.stride), begin
            ):
                tags = rows.labels[row]
                covered = {word for piece in pieces for word in piece["word_ids"]}
                absent = set(range(len(tags))) - covered
                gone = [any(w in absent for w in range(e.start, e.end)) for e in entities(tags)]
                statistics["uncovered"] += len(absent)
                statistics["lost"] += sum(gone)
                statistics["long"] += len(pieces) > 1
                for piece in pieces:
                    word_ids = piece.pop("word_ids")
                    piece["labels"] = [ids[t] for t in align(word_ids, tags, self.label_subwords)]
                    piece["word"] = firsts(word_ids)
                grouped = [[piece] for piece in pieces] if split == "train" else [pieces]
                for group in grouped:
                    columns: dict[str, Any] = {k: [piece[k] for piece in group] for k in group[0]}
                    length = sum(len(piece["input_ids"]) for piece in group)
                    for key, value in (columns | {"length": length, "row": row}).items():
                        out.setdefault(key, []).append(value)
            begin += len(part)
            yield out, statistics

    def report(self, split: str, count: int, statistics: Mapping[str, int]) -> None:
        said = {
            f"of {count} sentences are longer than data.max_tokens={self.max_tokens} and become "
            "windows": statistics["long"],
            "words are in no window": statistics["uncovered"],
            "entities are in no window": statistics["lost"],
        }
        if found := [f"{number} {what}" for what, number in said.items() if number]:
            log.info("%s: %s", split, "; ".join(found))

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `input_ids`, `attention_mask`, `labels`, `word` (B, T), the word whose first
        subword a token is, else -1, and `row` (B,), the sentence of a window."""
        rows = rowwise(batch)
        keys = [key for key in rows[0] if key not in ("row", "length")]
        flat = {key: [piece for row in rows for piece in row[key]] for key in keys}
        side = self.tokenizer.padding_side
        extra = {
            key: pad_sequence(
                [torch.tensor(piece) for piece in flat.pop(key)],
                batch_first=True,
                padding_value=padding,
                padding_side=side,
            )
            for key, padding in (("labels", IGNORED), ("word", -1))
        }
        row = torch.tensor([row["row"] for row in rows for _ in row["input_ids"]])
        return dict(self.tokenizer.pad(flat, return_tensors="pt")) | extra | {"row": row}


def types_of(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    """Returns how many entities there are of each type."""
    return Counter(entity.type for tags in sentences for entity in entities(tags))


def check_types(
    rows: Mapping[str, Sentences], found: Mapping[str, Counter[str]], labels: Sequence[str]
) -> None:
    """Raises ThawError if a split has an entity type that a trained model does not know."""
    known = {split_tag(name)[1] for name in labels}
    for split, types in found.items():
        if extra := sorted(set(types) - known):
            raise ThawError(
                f"{rows[split].origin}: {split} has {number_of(types[extra[0]], 'entities')} of "
                f"type {extra[0]}, which the model does not know; it knows "
                f"{', '.join(sorted(known - {''}))}."
            )
