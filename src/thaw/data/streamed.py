"""A corpus larger than memory: train is read while it trains."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from thaw.data.base import EncoderData
from thaw.data.batch.stream import Stream
from thaw.data.contents import contents_of_path
from thaw.data.read.row_values import Columns, as_text, is_missing, require_columns
from thaw.data.read.sampling.splits import split_of
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.texts import Source, Texts, origin_of
from thaw.data.summary import DataSummary
from thaw.errors import ThawError

STREAMED = 2000  # texts at most of a split that is cut from a stream: they are held in memory


class StreamedData(EncoderData):
    """Reads train while it trains, if asked to, from its column of texts."""

    def __init__(self, streaming: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.streaming = streaming
        self.hub["streaming"] = streaming
        whole = {"data.folds": self.folds, "data.train_size": self.train_size}
        for option in (name for name, value in whole.items() if streaming and value is not None):
            raise ThawError(
                f"{option} needs all texts at once, and data.streaming=true reads them while it "
                "trains: leave one of the two out."
            )

    def columns(self, row: Mapping[str, Any]) -> Columns:
        """Returns the columns to read, given the first row."""
        raise NotImplementedError

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        if not self.streaming:
            return super().read_splits(only)
        out = self.read_ahead(only)
        root = self.root()
        if not isinstance(root, str):
            path = (root or Path()) / str(self.sources["train"])
            self.contents["train"] = contents_of_path(path)
        return out

    def summary(self) -> DataSummary:
        found = super().summary()
        if not self.streaming:
            return found
        split = str(self.sources["train"])
        rows = self.source_rows(self.root(), split)
        columns = self.columns(next(rows)).by_option  # before train is read, no more is known
        form = rows.remarks.format or ""
        source = Source(origin_of(self.root(), split), columns, None, {}, form)
        return replace(found, sources=[source, *found.sources])

    def read_ahead(self, only: str | None) -> dict[str, Texts]:
        """Returns the splits that are evaluated, fractions from the beginning of the stream."""
        fractions = self.fractions()
        if self.sources["train"] is None:
            raise ThawError(f"the data {self.name} needs data.train=<file>{self.example}")
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

    def streamed(self, split: str) -> Iterator[tuple[str, Any]]:
        """Yields texts of train's source that fall into a split, each with its document: by a hash
        of the group, else of the document in a folder, else of the text itself."""
        fractions = self.fractions()
        source = str(self.sources["train"])
        rows = replace_surrogates(self.source_rows(self.root(), source), source)
        head = list(islice(rows, 1))
        columns = self.columns(head[0] if head else {})
        [column], group = columns.text, columns.group
        for number, row in enumerate(chain(head, rows)):
            if number == 0:
                require_columns(row, columns, source)
            text = as_text(row[column], column, f"{source}: row {number + 1}")
            key = text if group is None or is_missing(row[group]) else str(row[group])
            if text.strip() and split_of(key, fractions) == split:
                yield text, row.get("document", number)

    def setup(self, stage: str) -> None:
        """Reads the splits; raises ThawError if nothing says when a stream is to stop or to
        validate."""
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
