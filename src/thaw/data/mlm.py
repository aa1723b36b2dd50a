"""Texts without labels, for `task=mlm`.

Shapes: B batch, T tokens.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch

from thaw.data.batch.masking import word_numbers
from thaw.data.encode.blocks import Row, blocks, padded, portions
from thaw.data.encode.token_cache import Rows as Encodings
from thaw.data.loaders import rowwise
from thaw.data.read.corpus import corpus_rows, joined
from thaw.data.read.entities.word_rows import texts_of_words
from thaw.data.read.row_values import Columns
from thaw.data.read.rows import Rows
from thaw.data.read.texts import Texts, origin_of, read_texts
from thaw.data.streamed import StreamedData
from thaw.errors import ThawError, require_choice

ENDLESS = 10_000  # characters of a corpus that is one line


class MaskedLanguageModelData(StreamedData):
    """Reads, encodes and batches running text, which the task masks (`conf/data/files.yaml`)."""

    example = ", such as data.train=corpus.txt: a text a line, a table, or a folder of .txt"
    cut_hint = "; data.pack=documents trains on all of them"

    def __init__(
        self,
        text: str | int = "text",
        group: str | None = None,
        pack: Literal["lines", "documents"] = "lines",
        tokens: str = "tokens",
        token_column: int = 0,
        sentence: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.text = str(text)
        self.reading = replace(
            self.reading,
            text=self.text,
            tokens=tokens,
            token_column=token_column,
            tag_column=None,
            sentence=sentence,
            annotated=False,
        )
        self.group = group
        self.pack = pack
        require_choice("data.pack", pack, ("lines", "documents"))
        if self.tokenizer.mask_token_id is None:
            raise ThawError(
                f"{options['tokenizer']} has a tokenizer without a mask token; task=mlm needs one, "
                "as encoders like BERT have: model=minilm, or another model.checkpoint."
            )
        if not self.tokenizer.is_fast:
            raise ThawError(
                f"{options['tokenizer']} has no tokenizer.json, which task=mlm needs: name another "
                "model.checkpoint."
            )
        probe = self.tokenizer("a", return_special_tokens_mask=True)
        first = probe["special_tokens_mask"].index(0)
        last = len(probe["input_ids"]) - probe["special_tokens_mask"][::-1].index(0)
        self.prefix, self.suffix = probe["input_ids"][:first], probe["input_ids"][last:]
        self.room = self.max_tokens - len(self.prefix) - len(self.suffix)
        self.special = set(self.tokenizer.all_special_ids)

    def task_kwargs(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens}

    def source_rows(self, root: Path | str | None, split: str) -> Rows:
        if isinstance(root, str):
            rows = super().source_rows(root, split)
        else:
            rows = corpus_rows((root or Path()) / split, self.reading, self.pack == "documents")
        return texts_of_words(rows, self.reading, origin_of(root, split))

    def pick(self, rows: Iterable[Mapping[str, Any]], origin: str) -> Texts:
        if self.pack == "documents":
            rows = joined(rows, self.text)
        head = list(islice(rows := iter(rows), 1))
        if not head:
            raise ThawError(f"{origin} holds no text: an empty corpus trains nothing.")
        texts = read_texts(chain(head, rows), self.columns(head[0]), origin)
        if self.pack == "lines" and len(texts) == 1 and len(texts.texts[0][0]) > ENDLESS:
            raise ThawError(
                f"{origin} is one line of {len(texts.texts[0][0]):,} characters; expected a text a "
                "line. data.pack=documents cuts it into blocks of data.max_tokens; a split cannot "
                "be cut from it, so name one: data.validation=<file>, or null."
            )
        return texts

    def columns(self, row: Mapping[str, Any]) -> Columns:
        """Returns the columns to read, words where there is no text; the files of a folder are
        groups."""
        group = "document" if isinstance(row.get("document"), str) else None
        words = self.text not in row and self.reading.tokens in row
        text = [self.reading.tokens if words else self.text]
        return Columns(text=text, label=None, drop_empty=True, group=self.group or group)

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        return {
            "task": "mlm",
            "max_tokens": self.max_tokens,
            "pack": self.pack,
            "frame": [self.prefix, self.suffix],
            "special": sorted(self.special),
            "separator": self.tokenizer.sep_token_id,
        }

    def tokenize(self, rows: Texts, split: str) -> Iterator[tuple[Encodings, dict[str, int]]]:
        texts = ((text, i) for i, (text,) in enumerate(rows.texts))
        statistics: dict[str, int] = {} if self.pack == "documents" else {"cut": 0, "longest": 0}
        encoded = enumerate(self.encoded_rows(texts, statistics))
        while part := list(islice(encoded, 1000)):
            columns: Encodings = {
                "input_ids": [ids for _, (ids, _) in part],
                "words": [words for _, (_, words) in part],
                "length": [len(ids) for _, (ids, _) in part],
                "row": [number for number, _ in part],
            }
            yield columns, statistics

    def encoded_rows(
        self, texts: Iterable[tuple[str, Any]], statistics: dict[str, int] | None = None
    ) -> Iterator[Row]:
        """Yields tokens with the number of each one's word (-1: special), by text or by block;
        texts come with their documents, and those that are cut are counted."""
        rows = self.tokens(texts)
        if self.pack == "documents":
            yield from map(self.framed, blocks(rows, self.room, self.tokenizer.sep_token_id))
            return
        for _, row in rows:
            if statistics is not None:
                statistics["cut"] += len(row[0]) > self.room
                special = self.max_tokens - self.room
                statistics["longest"] = max(statistics["longest"], len(row[0]) + special)
            yield self.framed(row)

    def tokens(self, texts: Iterable[tuple[str, Any]]) -> Iterator[tuple[Any, Row]]:
        """Yields the document, tokens and words of each text, without special tokens around it."""
        for part in portions(texts, lambda pair: len(pair[0])):
            strings = [text for text, _ in part]
            encoded = self.tokenizer(
                strings, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for i, (text, document) in enumerate(part):
                ids = encoded["input_ids"][i]
                words = word_numbers(text, encoded["offset_mapping"][i], encoded.word_ids(i))
                marked = [-1 if t in self.special else w for t, w in zip(ids, words, strict=True)]
                yield document, (ids, marked)

    def framed(self, row: Row) -> Row:
        """Returns a row, cut where it is too long, between the special tokens of the model."""
        ids, words = row[0][: self.room], row[1][: self.room]
        return (
            [*self.prefix, *ids, *self.suffix],
            [-1] * len(self.prefix) + words + [-1] * len(self.suffix),
        )

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `input_ids`, `words` (B, T), `row` (B,), and `attention_mask` if rows differ."""
        rows = rowwise(batch)
        return padded(
            [(r["input_ids"], r["words"]) for r in rows],
            [r["row"] for r in rows],
            self.tokenizer.pad_token_id or 0,
        )
