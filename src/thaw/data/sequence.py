"""Texts with one label, or several, for `task=sequence`.

Shapes: B batch, T tokens, C labels.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedTokenizerBase

from thaw.data.batching import LengthGroupedBatches
from thaw.data.table import SPLITS, Columns, Texts, cut, label_names, read_split, read_texts
from thaw.errors import ThawError
from thaw.wheels import fetch_wheels

log = logging.getLogger(__name__)


class SequenceData(LightningDataModule):
    """Reads, checks, encodes and batches texts with labels.

    Every argument but the last two is an option of `conf/data/`, described in
    `conf/data/files.yaml`.

    Args:
        tokenizer: the model's directory.
        seed: of the order of batches.
    """

    def __init__(
        self,
        name: str,
        tokenizer: str | Path,
        train: str | None,
        validation: str | float | None = 0.1,
        test: str | float | None = None,
        path: str | Mapping[str, Any] | None = None,
        config: str | None = None,
        revision: str | None = None,
        text: str | Sequence[str] = "text",
        label: str = "label",
        label_separator: str | None = None,
        labels: Sequence[str | int] | None = None,
        drop_labels: Sequence[str | int] = (),
        drop_empty: bool = False,
        group: str | None = None,
        split_seed: int = 0,
        encoding: str = "utf-8",
        max_tokens: int = 128,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.sources = {"train": train, "validation": validation, "test": test}
        self.path = path
        self.hub = {"config": config, "revision": revision}
        self.columns = Columns(
            text=[text] if isinstance(text, str) else list(text),
            label=label,
            label_separator=label_separator,
            drop_labels=[str(name) for name in drop_labels],
            drop_empty=drop_empty,
            group=group,
        )
        self.given_labels = None if labels is None else [str(name) for name in labels]
        self.split_seed = split_seed
        self.encoding = encoding
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False
        )
        self.labels: list[str] = []
        self.multi_label = False
        self.texts: dict[str, Texts] = {}
        self.encoded: dict[str, Dataset] = {}
        self.start = 0
        if not 1 <= len(self.columns.text) <= 2:
            raise ThawError(f"data.text={text}: one column, or two for pairs.")
        if not 3 <= max_tokens <= self.tokenizer.model_max_length:
            raise ThawError(
                f"data.max_tokens={max_tokens}: this model takes 3 to "
                f"{self.tokenizer.model_max_length}."
            )

    def read(self, only: str | None = None, labels: Sequence[str] | None = None) -> None:
        """Reads, checks and encodes the splits, and finds the labels.

        Args:
            only: one split, for evaluation: a fraction is cut as in training.
            labels: a trained model's labels; None: train's.

        Raises:
            ThawError: the data cannot be read, or lacks what the task needs.
        """
        self.texts = self.read_splits(only)
        train = next(iter(self.texts.values())) if only else self.texts["train"]
        self.multi_label = any(isinstance(value, list) for value in train.labels)
        self.labels = list(labels or label_names(train.labels, self.given_labels))
        if only is None:
            check_classes(train, self.labels, self.multi_label)
            self.warn_of_leaks()
        for split, texts in self.texts.items():
            check_labels(texts, split, self.labels)
            self.encoded[split] = self.encode(texts, split)

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        """The rows of each split, fractions cut from train."""
        train = self.sources["train"]
        fractions = {s: v for s, v in self.sources.items() if isinstance(v, (int, float))}
        if only is not None and self.sources[only] is None:
            there = [s for s, v in self.sources.items() if v is not None]
            raise ThawError(f"data={self.name} has no {only} split; it has {', '.join(there)}.")
        if train is None and (only is None or only in fractions):
            raise ThawError(
                f"data={self.name} needs data.train=<file>, such as data.train=reviews.csv "
                "data.text=review data.label=stars"
            )
        root = self.root()
        out: dict[str, Texts] = {}
        for split in SPLITS:
            source = self.sources[split]
            if source is None or split in fractions or (only is not None and only != split):
                continue
            out[split] = self.read_one(root, str(source))
        if fractions and (only is None or only in fractions or only == "train"):
            whole = out["train"] if "train" in out else self.read_one(root, str(train))
            out |= cut(whole, {s: float(v) for s, v in fractions.items()}, self.split_seed)
        return {s: out[s] for s in SPLITS if s in out and (only is None or s == only)}

    def read_one(self, root: Path | str | None, split: str) -> Texts:
        origin = (
            f"{root}, split {split}" if isinstance(root, str) else str((root or Path()) / split)
        )
        return read_texts(read_split(root, split, self.encoding, **self.hub), self.columns, origin)

    def root(self) -> Path | str | None:
        """Where the splits are: a directory, or the Hub's owner/name as a string."""
        if isinstance(self.path, Mapping):
            found = fetch_wheels(self.path["wheels"], self.path["member"])
            return found if found.is_dir() else found.parent
        if self.path is None or Path(self.path).is_dir():
            return None if self.path is None else Path(self.path)
        return self.path

    def warn_of_leaks(self) -> None:
        """Warns of texts that train shares with a split that is evaluated."""
        train = set(self.texts["train"].texts)
        for split in ("validation", "test"):
            if split in self.texts and (n := sum(t in train for t in self.texts[split].texts)):
                log.warning("%s: %d of %d texts are in train too", split, n, len(self.texts[split]))

    def encode(self, texts: Texts, split: str) -> Dataset:
        """Tokenizes a split and warns of texts that are cut."""
        columns: dict[str, list] = {}
        ids = {name: i for i, name in enumerate(self.labels)}
        for begin in range(0, len(texts), 1000):
            parts = list(zip(*texts.texts[begin : begin + 1000], strict=True))
            full = self.tokenizer(*map(list, parts), truncation=False, verbose=False)["input_ids"]
            columns.setdefault("length", []).extend(map(len, full))
            for key, value in self.tokenizer(
                *map(list, parts), truncation=True, max_length=self.max_tokens
            ).items():
                columns.setdefault(key, []).extend(value)
        lengths = np.array(columns["length"])
        if cut_off := int((lengths > self.max_tokens).sum()):
            log.warning(
                "%s: %d of %d texts are longer than data.max_tokens=%d and cut (the longest: %d)",
                split, cut_off, len(texts), self.max_tokens, lengths.max(),
            )  # fmt: skip
        columns["length"] = np.minimum(lengths, self.max_tokens).tolist()
        columns["row"] = list(range(len(texts)))
        columns["labels"] = [
            [float(name in set(value)) for name in self.labels] if self.multi_label else ids[value]
            for value in texts.labels
        ]
        return Dataset.from_dict(columns)

    def train_dataloader(self) -> DataLoader:
        """Batches of similar length in an order of (seed, epoch)."""
        loader = self.loader("train", self.batch_size, shuffle=True)
        if isinstance(loader.sampler, LengthGroupedBatches):
            loader.sampler.start = self.start % max(1, len(loader))
        self.start = 0
        return loader

    def val_dataloader(self) -> DataLoader | list:
        return self.loader("validation", self.eval_batch_size) if "validation" in self.texts else []

    def test_dataloader(self) -> DataLoader | list:
        return self.loader("test", self.eval_batch_size) if "test" in self.texts else []

    def loader(self, split: str, batch_size: int, shuffle: bool = False) -> DataLoader:
        """Batches: `input_ids`, `attention_mask` (B, T), `labels` (B,) or (B, C), `row` (B,)."""
        data = self.encoded[split]
        world_size = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        if len(data) < world_size:
            raise ThawError(f"{split} has {len(data)} texts, fewer than {world_size} processes.")
        batches = LengthGroupedBatches(
            data["length"][:],
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
        )
        data = data.remove_columns("length")
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # The same batches in every epoch; Lightning wants a SequentialSampler for it.
            return DataLoader(data, batch_size, collate_fn=Collate(self.tokenizer))
        # The sampler gives whole batches, so batch_size is None: one fetch a batch.
        return DataLoader(
            data,
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=Collate(self.tokenizer),
        )

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch are done, for a checkpoint."""
        if self.trainer is None:
            return {"start": 0}
        # Not `ready`: a batch that an exception interrupts is not done.
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"start": progress.processed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.start = state_dict["start"]


class Collate:
    """Pads a batch of encoded texts to its longest and makes tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, batch: dict[str, list] | list[dict]) -> dict[str, torch.Tensor]:
        if isinstance(batch, dict):
            columns = batch.values()
            batch = [dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)]
        return dict(self.pad(batch))


def check_classes(train: Texts, labels: Sequence[str], multi_label: bool) -> None:
    """Raises ThawError unless train has at least two classes, and every one of `labels`."""
    found = {n for value in train.labels for n in (value if isinstance(value, list) else [value])}
    if len(found) < 2 and not (multi_label and found):
        raise ThawError(
            f"{train.origin}: train has one class only, {sorted(found)}; "
            "a classifier needs two. Is data.label the right column?"
        )
    if absent := [name for name in labels if name not in found]:
        raise ThawError(
            f"{train.origin}: train has no text with label {absent[:5]} of data.labels."
        )


def check_labels(texts: Texts, split: str, labels: Sequence[str]) -> None:
    """Raises ThawError if a split has a label that the model does not know."""
    known = set(labels)
    unknown: dict[str, int] = {}
    for value in texts.labels:
        for name in value if isinstance(value, list) else [value]:
            if name not in known:
                unknown[name] = unknown.get(name, 0) + 1
    if unknown:
        name, count = next(iter(unknown.items()))
        raise ThawError(
            f"{texts.origin}: {split} has label {name!r} ({count} rows) that train lacks; "
            f"train has {', '.join(map(repr, list(labels)[:20]))}."
        )
