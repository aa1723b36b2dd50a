"""Texts with one label, or several, for `task=sequence`.

Shapes: B batch, T tokens, C labels.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import PositiveInt
from torch.utils.data import Sampler

from thaw.data.batch.samplers import BalancedBatches
from thaw.data.read.labels.names import (
    counted,
    label_counts,
    label_names,
    listed,
    names_of,
    normalized,
    option,
    warn_of_alike,
    warn_of_odd,
    warn_of_undropped,
)
from thaw.data.read.sampling.few_shots import distinct, draw
from thaw.data.read.texts import Texts
from thaw.data.texts import TextData
from thaw.errors import ThawError

log = logging.getLogger(__name__)

LEAST_STEPS = 20  # of an epoch over a few shots


class SequenceData(TextData):
    """Reads, checks, encodes and batches texts with labels, as `conf/data/files.yaml` says."""

    has_windows = True

    def __init__(
        self,
        label: str | int | Sequence[str | int] = "label",
        label_separator: str | None = None,
        labels: Sequence[str | int | float] | None = None,
        drop_labels: Sequence[str | int | float] = (),
        normalize_labels: bool = False,
        shots: PositiveInt | None = None,
        steps: PositiveInt | None = None,
        **options: Any,
    ) -> None:
        super().__init__(label=label, **options)
        self.shots = shots
        self.steps = steps
        tidy = normalized if normalize_labels else str
        flags = None if isinstance(label, str | int) else self.columns.label
        given = flags if labels is None else [str(name) for name in labels]
        self.given_labels = None if given is None else [tidy(name) for name in given]
        self.columns = replace(
            self.columns,
            label_separator=label_separator,
            drop_labels=[str(name) for name in drop_labels],
            labels=self.given_labels,
            normalize_labels=normalize_labels,
        )
        self.multi_label = False
        if flags == []:
            raise ThawError("data.label=[]: expected a column, or several of zeros and ones.")

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """Options of transformers' pipeline: that of several labels a text gives them all."""
        return super().pipeline_options | ({"top_k": None} if self.multi_label else {})

    def find_labels(self) -> None:
        train = next(iter(self.rows.values())) if self.only else self.rows["train"]
        self.multi_label = has_lists(train)
        for split, texts in self.rows.items():
            as_lists(texts, split, self.multi_label)
        if self.trained is not None:
            self.labels = trained_labels(self.trained, self.multi_label)
        else:
            self.labels = label_names(train.labels, self.given_labels)
        if self.only is None:
            check_classes(train, self.labels, self.multi_label)
            warn_of_alike(label_counts(train.labels), train.origin)
            warn_of_odd(label_counts(train.labels), train.origin)
            self.warn_of_kept()
        for split, texts in self.rows.items():
            check_labels(texts, split, self.labels)

    def warn_of_kept(self) -> None:
        """Warns of labels to drop that no row has, and of rows that stay with a similar label."""
        if not self.columns.drop_labels:
            return
        train = self.rows["train"]
        warn_of_undropped(self.columns.drop_labels, label_counts(train.labels), train.origin)
        sources = [rows.source for rows in self.rows.values() if rows.source]
        if sources and not any("data.drop_labels" in source.left_out for source in sources):
            named = listed(self.columns.drop_labels)
            log.warning("no row has a label of data.drop_labels: %s", named)

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        out = super().read_splits(only)
        if only is None and self.shots is not None:
            validation = out.get("validation") if "validation" in self.fractions() else None
            out["train"] = draw(distinct(out["train"]), self.shots, self.seed, validation)
        return out

    def batches(self, split: str, batch_size: int, shuffle: bool) -> Sampler[list[int]]:
        """Returns batches of similar length; with `steps` or `shots`, of labels in equal parts."""
        steps = self.steps
        if steps is None and self.shots is not None:
            steps = max(LEAST_STEPS, len(self.encoded[split]) // 2)
        if not shuffle or steps is None:
            return super().batches(split, batch_size, shuffle)
        # Where a text has several labels, its first one counts.
        labels = np.asarray(self.encoded[split]["labels"][:])
        labels = labels.argmax(axis=1) if self.multi_label else labels
        return BalancedBatches(labels, batch_size, steps, self.seed, **self.ranks())

    def task_kwargs(self) -> dict[str, Any]:
        """Returns labels, whether a text has several, and how often each occurs in train."""
        named: dict[str, Any] = {"labels": self.labels, "multi_label": self.multi_label}
        given = super().task_kwargs() | named
        if "train" in self.rows:
            counts = label_counts(self.rows["train"].labels)
            given["label_counts"] = [counts[name] for name in self.labels]
        return given

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        options = {"labels": self.labels, "multi_label": self.multi_label}
        return super().cache_key_parts(split) | {"task": "sequence", **options}

    def encoded_labels(self, labels: Sequence[Any]) -> list[Any]:
        if self.multi_label:
            return [[float(name in value) for name in self.labels] for value in labels]
        ids = {name: i for i, name in enumerate(self.labels)}
        return [ids[value] for value in labels]


def has_lists(texts: Texts) -> bool:
    """Returns whether texts have several labels."""
    return any(isinstance(label, list) for label in texts.labels)


def as_lists(texts: Texts, split: str, multi_label: bool) -> None:
    """Makes lists of labels, in place, where texts have several; raises ThawError if train's have
    not."""
    if not multi_label and has_lists(texts):
        what = f"texts of {split} have several labels, those of train one."
        raise ThawError(f"{texts.origin}: {what}")
    if multi_label:
        lists = {label: [label] for label in texts.labels if isinstance(label, str)}
        texts.labels = [lists[x] if isinstance(x, str) else x for x in texts.labels]


def trained_labels(config: Mapping[str, Any], multi_label: bool) -> list[str]:
    """Returns the labels of a trained model in their order; raises ThawError if a text has several
    in the data and one in the model, or the other way round."""
    if multi_label != (config.get("problem_type") == "multi_label_classification"):
        several, one = ("the data", "the model") if multi_label else ("the model", "the data")
        raise ThawError(
            f"{several} has several labels a text, {one} has one. data.label_separator='|' reads "
            "several out of a field."
        )
    return names_of(config)


def check_classes(train: Texts, labels: Sequence[str], multi_label: bool) -> None:
    """Raises ThawError unless train has at least two classes, and every one of `labels`."""
    found = label_counts(train.labels)
    if len(found) < 2 and not (multi_label and found):
        raise ThawError(
            f"{train.origin}: train has one class only, {sorted(found)}; "
            "a classifier needs two. Is data.label the right column?"
        )
    if absent := [name for name in labels if name not in found]:
        raise ThawError(
            f"{train.origin}: train has no text with label {listed(absent)} of data.labels; it has "
            f"{counted(found)}. Leave the names without texts out of data.labels, or their columns "
            "out of data.label."
        )


def check_labels(texts: Texts, split: str, labels: Sequence[str]) -> None:
    """Raises ThawError if a split has a label that the model does not know."""
    counts = label_counts(texts.labels)
    unknown = {name: count for name, count in counts.items() if name not in set(labels)}
    if not unknown:
        return
    looks = {normalized(name): name for name in labels}
    twins = [(name, looks[normalized(name)]) for name in unknown if normalized(name) in looks]
    way = f"Leave their rows out: {option('data.drop_labels', list(unknown))}."
    if twins:
        way = (
            f"{twins[0][0]!a} and {twins[0][1]!a} differ in case, spaces, Unicode form or "
            "invisible characters only: data.normalize_labels=true makes one of such labels."
        )
    raise ThawError(
        f"{texts.origin}: {split} has labels that train lacks, with so many rows: "
        f"{counted(unknown)}; train has {listed(labels)}. {way}"
    )
