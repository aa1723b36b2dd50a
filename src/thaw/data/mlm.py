"""Texts without labels, for `task=mlm`.

Shapes: B batch, T tokens.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from thaw.data.base import EncoderData
from thaw.data.batch.stream import Stream
from thaw.data.contents import contents_of_path
from thaw.data.encode.blocks import Row, blocks, padded, portions
from thaw.data.encode.token_cache import Rows as Encodings
from thaw.data.encode.words import word_numbers
from thaw.data.loaders import rowwise
from thaw.data.read.corpus import corpus_rows, joined
from thaw.data.read.labels.reader import is_missing
from thaw.data.read.row_values import Columns, as_text, require_columns
from thaw.data.read.splits import split_of
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.texts import Texts, read_texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)

PACKS = ("lines", "documents")
ENDLESS = 10_000  # characters of a corpus that is one line
STREAMED = 2000  # texts at most of a split that is cut from a stream: they are held in memory


class MaskedLanguageModelData(EncoderData):
    """Reads, encodes and batches running text; the task masks it.

    The arguments are options of `conf/data/`, described in `conf/data/files.yaml`; those not named
    here are `EncoderData`'s.
    """

    def __init__(
        self,
        text: str | int = "text",
        group: str | None = None,
        pack: Literal["lines", "documents"] = "lines",
        streaming: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.text = str(text)
        self.reading = replace(self.reading, text=self.text, annotated=False)
        self.group = group
        self.pack = pack
        self.streaming = streaming
        if streaming and self.folds is not None:
            raise ThawError(
                "data.folds needs all texts at once, and data.streaming=true reads them while it "
                "trains: leave one of the two out."
            )
        if pack not in PACKS:
            raise ThawError(f"data.pack={pack}: expected {' or '.join(PACKS)}.")
        if self.tokenizer.mask_token_id is None:
            raise ThawError(
                f"{options['tokenizer']} has a tokenizer without a mask token; task=mlm needs one, "
                "as encoders like BERT have: model=minilm, or another model.checkpoint."
            )
        if not self.tokenizer.is_fast:
            raise ThawError(f"{options['tokenizer']} has no tokenizer.json, which task=mlm needs.")
        probe = self.tokenizer("a", return_special_tokens_mask=True)
        first = probe["special_tokens_mask"].index(0)
        last = len(probe["input_ids"]) - probe["special_tokens_mask"][::-1].index(0)
        self.prefix, self.suffix = probe["input_ids"][:first], probe["input_ids"][last:]
        self.room = self.max_tokens - len(self.prefix) - len(self.suffix)
        self.special = set(self.tokenizer.all_special_ids)

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        if not self.streaming:
            return super().read_splits(only)
        out = self.read_ahead(only)
        root = self.root()
        if not isinstance(root, str):
            path = (root or Path()) / str(self.sources["train"])
            self.contents["train"] = contents_of_path(path)
        return out

    def example(self) -> str:
        return ", such as data.train=corpus.txt: a text a line, a table, or a folder of .txt"

    def task_kwargs(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens}

    def source_rows(self, root: Path | str | None, split: str) -> Iterable[Mapping[str, Any]]:
        if isinstance(root, str):
            return super().source_rows(root, split)
        return corpus_rows((root or Path()) / split, self.reading, self.pack == "documents")

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
        """Returns the columns to read; the files of a folder are groups."""
        group = "document" if isinstance(row.get("document"), str) else None
        return Columns(text=[self.text], label=None, drop_empty=True, group=self.group or group)

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
        """Yields tokens with the number of each one's word (-1: special), by text or by block.

        Args:
            texts: each with its document.
            statistics: counts of texts that are cut, and the longest length, which are updated.
        """
        rows = self.tokens(texts)
        if self.pack == "documents":
            yield from map(self.framed, blocks(rows, self.room, self.tokenizer.sep_token_id))
            return
        for _, row in rows:
            if statistics is not None:
                statistics["cut"] += len(row[0]) > self.room
                statistics["longest"] = max(statistics["longest"], len(row[0]))
            yield self.framed(row)

    def report(self, split: str, count: int, statistics: Mapping[str, int], hint: str = "") -> None:
        hint = "; data.pack=documents trains on all of them"
        super().report(split, count, statistics, hint)

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

    # A corpus larger than memory: train is read while it trains.

    def read_ahead(self, only: str | None) -> dict[str, Texts]:
        """Returns the splits that are evaluated, fractions from the beginning of the stream."""
        fractions = self.fractions()
        if self.sources["train"] is None:
            raise ThawError(f"data={self.name} needs data.train=<file>{self.example()}")
        if next(self.streamed("train"), None) is None:
            raise ThawError(f"{self.sources['train']} holds no text: an empty corpus.")
        out: dict[str, Texts] = {}
        for split in ("validation", "test"):
            source = self.sources[split]
            if source is None or (only is not None and split != only):
                continue
            if split in fractions:
                texts: list[tuple[str, ...]] = [
                    (text,) for text, _ in islice(self.streamed(split), STREAMED)
                ]
                if not texts:
                    raise ThawError(
                        f"{self.sources['train']} is too short to cut {source} for {split}; "
                        f"name a file: data.{split}=<file>, or null."
                    )
                out[split] = Texts(texts, [None] * len(texts), [], f"stream, {split}")
            else:
                out[split] = self.read_one(self.root(), str(source))
        return out

    def fractions(self) -> dict[str, float]:
        """Returns the splits that are cut from train, with their shares."""
        return {s: float(v) for s, v in self.sources.items() if isinstance(v, (int, float))}

    def streamed(self, split: str) -> Iterator[tuple[str, Any]]:
        """Yields texts of train's source that fall into a split, each with its document.

        A text's split follows from a hash of its group, else of its document in a folder, else of
        the text itself.
        """
        fractions = self.fractions()
        source = str(self.sources["train"])
        rows = replace_surrogates(self.source_rows(self.root(), source), source)
        head = list(islice(rows, 1))
        columns = self.columns(head[0]) if head else None
        for number, row in enumerate(chain(head, rows)):
            if number == 0 and columns is not None:
                require_columns(row, columns, str(self.sources["train"]))
            text = as_text(row[self.text], self.text, f"{self.sources['train']}: row {number + 1}")
            group = columns.group if columns else None
            key = text if group is None or is_missing(row[group]) else str(row[group])
            if text.strip() and split_of(key, fractions) == split:
                yield text, row.get("document", number)

    def setup(self, stage: str) -> None:
        """Reads the splits; raises ThawError where a stream's unknown length leaves the trainer
        without an end."""
        super().setup(stage)
        if not self.streaming or self.trainer is None or stage == "test":
            return
        every = self.trainer.val_check_interval
        between = isinstance(every, float) and every < 1  # Lightning asks, validation or not
        if self.trainer.max_steps < 1 or between:
            raise ThawError(
                "data.streaming=true: the length of the corpus is not known, so say how long to "
                "train and how often to validate, in steps: trainer.max_steps=10000 "
                f"trainer.val_check_interval=1000 (got {self.trainer.max_steps} and {every})."
            )

    def sizes(self) -> dict[str, str]:
        return ({"train": "streamed"} if self.streaming else {}) | super().sizes()

    def loader(self, split: str, batch_size: int, shuffle: bool = False) -> DataLoader:
        if split != "train" or not self.streaming:
            return super().loader(split, batch_size, shuffle)
        epoch, start = self.first_epoch(), self.start
        stream = Stream(self, batch_size, self.seed, epoch=epoch, start=start, **self.ranks())
        return self.whole_batches(stream)
