"""Texts with one label, or several, for `task=sequence`.

Shapes: B batch, T tokens, C labels.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch.utils.data import Sampler

from thaw.data.base import EncoderData, names_of, rowwise
from thaw.data.batch.balanced import BalancedBatches
from thaw.data.encode.blocks import portions
from thaw.data.encode.token_cache import Rows
from thaw.data.read.few_shots import distinct, draw
from thaw.data.read.texts import Columns, Texts, label_names, read_texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)

LEAST_STEPS = 20  # of an epoch over a few shots


class SequenceData(EncoderData):
    """Reads, checks, encodes and batches texts with labels.

    The arguments are options of `conf/data/`, described in `conf/data/files.yaml`; those not named
    here are `EncoderData`'s.
    """

    def __init__(
        self,
        text: str | int | Sequence[str | int] = "text",
        label: str | int = "label",
        label_separator: str | None = None,
        labels: Sequence[str | int] | None = None,
        drop_labels: Sequence[str | int] = (),
        drop_empty: bool = False,
        group: str | None = None,
        shots: PositiveInt | None = None,
        steps: PositiveInt | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.shots = shots
        self.steps = steps
        names = [str(c) for c in ([text] if isinstance(text, str | int) else text)]
        self.reading = replace(self.reading, text=names[0] if len(names) == 1 else "text")
        self.columns = Columns(
            text=names,
            label=str(label),
            label_separator=label_separator,
            drop_labels=[str(name) for name in drop_labels],
            drop_empty=drop_empty,
            group=group,
        )
        self.given_labels = None if labels is None else [str(name) for name in labels]
        self.multi_label = False
        if not 1 <= len(self.columns.text) <= 2:
            raise ThawError(f"data.text={text}: one column, or two for pairs.")

    def read(self, only: str | None = None, trained: Mapping[str, Any] | None = None) -> None:
        """Reads, checks and encodes the splits, and finds the labels; see `EncoderData.read`."""
        self.rows = self.read_splits(only)
        train = next(iter(self.rows.values())) if only else self.rows["train"]
        self.multi_label = any(isinstance(value, list) for value in train.labels)
        if trained is not None:
            self.labels = trained_labels(trained, self.multi_label)
        else:
            self.labels = label_names(train.labels, self.given_labels)
        if only is None:
            check_classes(train, self.labels, self.multi_label)
            self.warn_of_leaks()
        for split, texts in self.rows.items():
            check_labels(texts, split, self.labels)
            self.encoded[split] = self.encode(texts, split)

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        out = super().read_splits(only)
        if only is None and self.shots is not None:
            out["train"] = draw(distinct(out["train"]), self.shots, self.seed)
        return out

    def batches(
        self, split: str, batch_size: int, shuffle: bool, rank: int, world_size: int
    ) -> Sampler[list[int]]:
        """Of similar length; of a few shots or in `steps`, with labels in equal parts."""
        steps = self.steps
        if steps is None and self.shots is not None:
            steps = max(LEAST_STEPS, len(self.encoded[split]) // 2)
        if not shuffle or steps is None:
            return super().batches(split, batch_size, shuffle, rank, world_size)
        # Where a text has several labels, its first one counts.
        labels = np.asarray(self.encoded[split]["labels"][:])
        labels = labels.argmax(axis=1) if self.multi_label else labels
        return BalancedBatches(labels, batch_size, steps, self.seed, rank, world_size)

    def example(self) -> str:
        return ", such as data.train=reviews.csv data.text=review data.label=stars"

    def pick(self, rows: Iterable[Mapping[str, Any]], origin: str) -> Texts:
        return read_texts(rows, self.columns, origin)

    def for_task(self) -> dict[str, Any]:
        """Labels, whether a text has several, and how often each occurs in train."""
        given: dict[str, Any] = {"labels": self.labels, "multi_label": self.multi_label}
        if "train" in self.rows:
            values = self.rows["train"].labels
            counts = Counter(n for v in values for n in (v if isinstance(v, list) else [v]))
            given["label_counts"] = [counts[name] for name in self.labels]
        return given

    def recipe(self, split: str) -> dict[str, Any]:
        return {
            "task": "sequence",
            "max_tokens": self.max_tokens,
            "labels": self.labels,
            "multi_label": self.multi_label,
        }

    def pieces(self, rows: Texts, split: str, about: dict[str, Any]) -> Iterator[Rows]:
        ids = {name: i for i, name in enumerate(self.labels)}
        about |= {"cut": 0, "longest": 0}
        begin = 0
        for texts in portions(rows.texts, lambda text: sum(map(len, text))):
            part = [list(column) for column in zip(*texts, strict=True)]
            labels = rows.labels[begin : begin + len(texts)]
            columns = {k: list(v) for k, v in self.tokenizer(*part, verbose=False).items()}
            lengths = [len(tokens) for tokens in columns["input_ids"]]
            long = [i for i, length in enumerate(lengths) if length > self.max_tokens]
            if long:
                short = self.tokenizer(
                    *([column[i] for i in long] for column in part),
                    truncation=True,
                    max_length=self.max_tokens,
                )
                for key, values in short.items():
                    for i, value in zip(long, values, strict=True):
                        columns[key][i] = value
            about["cut"] += len(long)
            about["longest"] = max(about["longest"], *lengths)
            yield columns | {
                "length": [min(length, self.max_tokens) for length in lengths],
                "row": list(range(begin, begin + len(labels))),
                "labels": [
                    [float(name in set(value)) for name in self.labels]
                    if self.multi_label
                    else ids[value]
                    for value in labels
                ],
            }
            begin += len(texts)

    def report(self, split: str, count: int, about: Mapping[str, Any]) -> None:
        """Warns of texts that are cut."""
        if about["cut"]:
            log.warning(
                "%s: %d of %d texts are longer than data.max_tokens=%d and cut (the longest: %d)",
                split,
                about["cut"],
                count,
                self.max_tokens,
                about["longest"],
            )

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` (B, T), `labels` (B,) or (B, C), `row` (B,)."""
        rows = [{k: v for k, v in row.items() if k != "length"} for row in rowwise(batch)]
        return dict(self.tokenizer.pad(rows, return_tensors="pt"))


def trained_labels(config: Mapping[str, Any], multi_label: bool) -> list[str]:
    """The labels of a trained classifier in their order.

    Args:
        config: of the model.
        multi_label: whether the data has several labels a text.

    Raises:
        ThawError: one has several labels a text, the other has not.
    """
    if multi_label != (config.get("problem_type") == "multi_label_classification"):
        several, one = ("the data", "the model") if multi_label else ("the model", "the data")
        raise ThawError(
            f"{several} has several labels a text, {one} has one. data.label_separator='|' reads "
            "several out of a field."
        )
    return names_of(config)


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
