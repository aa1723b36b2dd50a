"""Batches of a corpus that is read while it trains, in memory that does not grow with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from thaw.data.batch.samplers import LengthGroupedBatches
from thaw.data.encode.blocks import padded


@dataclass(eq=False)
class Stream(IterableDataset):
    """Batches grouped by length and shuffled within windows that are read ahead.

    Every process reads the whole corpus. With a text a row it tokenizes its own share only; windows
    are dealt out to the workers of a rank. A row's number is its place in the corpus, so its masks
    are the same wherever it is read.

    Args:
        data: the datamodule.
        batch_size: texts per rank and batch.
        seed: of the order; `rank` and `world_size`: see `Batches`.
        epoch: whose order comes first.
        start: batches to pass over, after a stop.
        window: batches that are read ahead.
    """

    data: Any
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    start: int = 0
    window: int = 50

    @property
    def packed(self) -> bool:
        """Whether rows are blocks of documents, and not texts."""
        return self.data.pack == "documents"

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        # Workers persist, so each counts the epochs by itself.
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        # Workers take turns: of the first `start` batches this one gave every count-th.
        skip = len(range(number, start, count))
        for place, (begin, window) in enumerate(self.windows()):
            if place % count != number:
                continue
            lengths = [len(row[0]) if self.packed else len(row) for row in window]
            seed = self.seed + (place << 32)
            batches = LengthGroupedBatches(
                lengths, self.batch_size, seed, rank=self.rank, world_size=self.world_size
            )
            batches.set_epoch(epoch)
            for rows in batches:
                if skip > 0:
                    skip -= 1
                elif rows:
                    yield self.batch([window[i] for i in rows], [begin + i for i in rows])

    def windows(self) -> Iterator[tuple[int, list[Any]]]:
        """The number of the first row, and rows: texts, or blocks of tokens."""
        texts = self.data.streamed("train")
        rows = self.data.encoded_rows(texts) if self.packed else (t for t, _ in texts)
        size, begin = self.window * self.batch_size * self.world_size, 0
        while window := list(islice(rows, size)):
            yield begin, window
            begin += len(window)

    def batch(self, rows: list[Any], numbers: list[int]) -> dict[str, torch.Tensor]:
        """A batch of texts or blocks, see `MaskedLanguageModelData.collate`."""
        if not self.packed:
            rows = [self.data.framed(row) for _, row in self.data.tokens((t, None) for t in rows)]
        return padded(rows, numbers, self.data.tokenizer.pad_token_id or 0)
