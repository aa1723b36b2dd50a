"""A few labelled texts of each class, for `task=setfit`.

Shapes: B batch, T tokens.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import PositiveInt
from torch.utils.data import DataLoader, Sampler

from thaw.data.sequence import SequenceData
from thaw.data.table import Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


class SetFitData(SequenceData):
    """Draws `shots` texts of each class from train; the other splits stay whole.

    Args:
        shots: texts a class.
        options: `SequenceData`'s.
    """

    def __init__(self, shots: PositiveInt = 16, **options: Any) -> None:
        super().__init__(**options)
        self.shots = shots
        if self.columns.label_separator is not None:
            raise ThawError("task=setfit takes one label a text: leave data.label_separator out.")

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        out = super().read_splits(only)
        if only is None:
            out["train"] = draw(out["train"], self.shots, self.seed)
        return out

    def for_task(self) -> dict[str, Any]:
        """Labels, and how long texts may be."""
        return {"labels": self.labels, "max_tokens": self.max_tokens}

    def train_dataloader(self) -> DataLoader:
        """Batches with the classes in equal parts, in an order of (seed, epoch)."""
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            return super().train_dataloader()
        data = self.encoded["train"]
        batches = BalancedBatches(
            data["labels"][:],
            self.batch_size,
            self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        batches.start, self.start = self.start % len(batches), 0
        return DataLoader(
            data.remove_columns("length"),
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=self.collate,
        )


def draw(texts: Texts, shots: int, seed: int) -> Texts:
    """Draws `shots` distinct texts of each class; texts with two labels are not drawn.

    Args:
        texts: with one label each.
        shots: texts a class.
        seed: of the draw.

    Raises:
        ThawError: a text has several labels, or a class has fewer texts.
    """
    if any(isinstance(value, list) for value in texts.labels):
        raise ThawError(f"{texts.origin}: task=setfit takes one label a text, not lists.")
    labels: dict[tuple[str, ...], set[str]] = {}
    first: dict[tuple[str, ...], int] = {}
    for row, (text, label) in enumerate(zip(texts.texts, texts.labels, strict=True)):
        labels.setdefault(text, set()).add(label)
        first.setdefault(text, row)
    if torn := [text for text, found in labels.items() if len(found) > 1]:
        log.warning("%d texts have two labels and are not drawn, such as %r", len(torn), torn[0][0])
    rows: dict[str, list[int]] = {name: [] for name in sorted(set(texts.labels))}
    for text, row in first.items():
        if len(labels[text]) == 1:
            rows[texts.labels[row]].append(row)
    if short := {name: len(found) for name, found in rows.items() if len(found) < shots}:
        name, count = min(short.items(), key=lambda item: item[1])
        least = f"Try task.shots={count}." if count else "Give it texts, or drop the label."
        raise ThawError(
            f"{texts.origin}: task.shots={shots}, and train has {count} distinct texts with label "
            f"{name!r}. {least}"
        )
    rng = np.random.default_rng(seed)
    drawn = [row for found in rows.values() for row in rng.permutation(found)[:shots]]
    return texts.take(int(row) for row in drawn)


class BalancedBatches(Sampler[list[int]]):
    """Batches in which the classes occur equally often, as far as they divide.

    Texts are shuffled within their class and dealt out a class at a time. A rank gets a run of
    neighbours of each batch, so that it has all classes too.

    Args:
        labels: the class of each text.
        batch_size: texts per rank and batch.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        labels: Sequence[int],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.labels = np.asarray(labels)
        self.size = batch_size * world_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches, from batch `start` of the epoch on (once, after a stop)."""
        start, self.start = self.start, 0
        for batch in np.array_split(self.order(), len(self))[start:]:
            yield np.array_split(batch, self.world_size)[self.rank].tolist()

    def order(self) -> np.ndarray:
        """All texts, one of each class in turn."""
        rng = np.random.default_rng((self.seed, self.epoch))
        place = np.empty(len(self.labels))
        for label in np.unique(self.labels):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            place[rows] = np.arange(len(rows))
        return np.lexsort((self.labels, place))
