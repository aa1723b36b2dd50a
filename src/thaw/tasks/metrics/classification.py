"""Metrics of classifiers, exact on any number of devices: states are summed or joined over ranks.

Shapes: B batch, C labels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import ConfusionMatrix, Metric, MetricCollection, StatScores
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelMatthewsCorrCoef,
    MultilabelPrecision,
    MultilabelRecall,
)
from torchmetrics.functional.classification import (
    multilabel_auroc,
    multilabel_average_precision,
)
from torchmetrics.utilities import dim_zero_cat

from thaw.errors import ThawError
from thaw.tasks.predictors.sequence import probabilities

Usual = Literal["accuracy", "f1", "f1_macro", "f1_binary", "f1_micro", "precision", "recall"]
MetricName = Usual | Literal["balanced_accuracy", "mcc", "auroc", "average_precision"]
RANKED = {"auroc": multilabel_auroc, "average_precision": multilabel_average_precision}
ON_DEMAND = ("balanced_accuracy", "mcc", *RANKED)  # computed where the user asks for them

MULTICLASS: dict[str, Any] = {
    "f1": MulticlassF1Score,
    "precision": MulticlassPrecision,
    "recall": MulticlassRecall,
}
MULTILABEL: dict[str, Any] = {
    "f1": MultilabelF1Score,
    "precision": MultilabelPrecision,
    "recall": MultilabelRecall,
}


def classification_metrics(
    labels: Sequence[str],
    multi_label: bool,
    names: Sequence[str] | None = None,
    monitor: str = "",
) -> MetricCollection:
    """Returns the metrics of a classifier, which `update_scores` adds texts to.

    `f1`, `precision` and `recall` are those of the second class where there are two (binary F1),
    and the mean over classes otherwise (macro F1). `f1_macro` is always the mean over classes,
    `f1_binary` exists for two classes. With several labels a text, accuracy is the fraction of
    texts with exactly the right set (subset accuracy), `f1_micro` counts all labels alike, and
    `mcc` is that of all decisions together.

    Args:
        labels: names of the C classes.
        multi_label: whether a text has several labels.
        names: names of the metrics; None: all but `ON_DEMAND`.
        monitor: watched metric, such as val/mcc, which is computed too.

    Raises:
        ThawError: a metric does not exist for these labels.
    """
    count = len(labels)
    found = averaged(count, multi_label, "macro")
    found["f1_macro"] = averaged(count, multi_label, "macro")["f1"]
    if multi_label:
        found["accuracy"] = MultilabelExactMatch(num_labels=count)
        found["f1_micro"] = averaged(count, multi_label, "micro")["f1"]
        found["mcc"] = MultilabelMatthewsCorrCoef(num_labels=count)
    else:
        found["accuracy"] = MulticlassAccuracy(num_classes=count, average="micro")
        found["balanced_accuracy"] = BalancedAccuracy(num_classes=count, average="none")
        found["mcc"] = MulticlassMatthewsCorrCoef(num_classes=count)
    if count == 2 and not multi_label:
        found |= {"f1": BinaryF1Score(), "f1_binary": BinaryF1Score()}
        found |= {"precision": BinaryPrecision(), "recall": BinaryRecall()}
    found |= {name: Ranking(of, count, multi_label) for name, of in RANKED.items()}
    shown = [n for n in found if n not in ON_DEMAND] if names is None else list(names)
    if unknown := [name for name in shown if name not in found]:
        raise ThawError(
            f"task.metrics: these labels have no {unknown[0]}; they have {', '.join(found)}."
        )
    shown.append(monitor.removeprefix("val/"))
    return unchecked({name: metric for name, metric in found.items() if name in shown})


def update_scores(
    scores: MetricCollection,
    logits: Tensor,
    labels: Tensor,
    several: bool,
    thresholds: Tensor | None = None,
) -> None:
    """Adds texts to `classification_metrics`.

    Args:
        scores: metrics, each of which takes what it needs.
        logits: (B, C).
        labels: (B,), or with several labels a text (B, C).
        several: whether a text has several labels.
        thresholds: see `predicted_classes`.
    """
    chances = probabilities(logits, several)
    classes = predicted_classes(logits, several, thresholds)
    scores.update(preds=classes, target=labels.long(), probabilities=chances)


class BalancedAccuracy(MulticlassRecall):
    """The mean recall of the classes that occur, as in scikit-learn."""

    tp: Tensor
    fn: Tensor

    def compute(self) -> Tensor:
        support = self.tp + self.fn
        return (self.tp / support.clamp(min=1))[support > 0].mean()


class Ranking(Metric):
    """A metric of the order that probabilities put texts in, computed of all texts.

    It is that of the second class where there are two, else the mean over classes, each against the
    rest; a class of which there are only positive or only negative texts is left out, and without
    another the value is 0.

    Args:
        function: metric of each label, of `torchmetrics.functional`.
        count: number of the C classes.
        multi_label: whether a text has several labels.
    """

    found: list[Tensor]
    gold: list[Tensor]

    def __init__(self, function: Callable[..., Tensor], count: int, multi_label: bool) -> None:
        super().__init__()
        self.function, self.count, self.multi_label = function, count, multi_label
        for state in ("found", "gold"):
            self.add_state(state, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forgets all texts; what is left has a shape, for a process that gets no text."""
        super().reset()
        self.found.append(torch.zeros(0, self.count, device=self.device))
        self.gold.append(torch.zeros(0, self.count, dtype=torch.int64, device=self.device))

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Adds texts: probabilities (B, C), labels (B,) or with several labels a text (B, C)."""
        self.found.append(probabilities)
        self.gold.append(target if self.multi_label else one_hot(target, self.count))

    def compute(self) -> Tensor:
        """Returns the mean over classes."""
        found, gold = dim_zero_cat(self.found), dim_zero_cat(self.gold)
        if self.count == 2 and not self.multi_label:
            found, gold = found[:, 1:], gold[:, 1:]
        both = (gold > 0).any(0) & (gold < 1).any(0)
        if not both.any():
            return found.new_zeros(())
        options: Any = {"num_labels": int(both.sum()), "average": "none", "validate_args": False}
        return self.function(found[:, both], gold[:, both], **options).mean()


def averaged(count: int, multi_label: bool, average: str) -> dict[str, Any]:
    """Returns F1, precision and recall of `count` classes with an average of torchmetrics."""
    kinds, size = (MULTILABEL, "num_labels") if multi_label else (MULTICLASS, "num_classes")
    return {name: kind(**{size: count, "average": average}) for name, kind in kinds.items()}


def per_class_metrics(labels: Sequence[str], multi_label: bool) -> MetricCollection:
    """Returns F1, precision, recall and counts (C, 5) of each class (C,), and without `multi_label`
    the confusion matrix (C, C), true classes in rows.

    The last of a class's counts is its support, the number of texts that have it.
    """
    found = averaged(len(labels), multi_label, "none")
    if multi_label:
        found["counts"] = StatScores(task="multilabel", num_labels=len(labels), average="none")
        return unchecked(found)
    found["counts"] = StatScores(task="multiclass", num_classes=len(labels), average="none")
    found["confusion"] = ConfusionMatrix(task="multiclass", num_classes=len(labels))
    same = ["f1", "precision", "recall", "counts"]
    return unchecked(found, compute_groups=[same, ["confusion"]])


def unchecked(metrics: dict[str, Any], **options: Any) -> MetricCollection:
    """Returns metrics that do not check their inputs: labels are checked when they are read, and a
    check of a tensor's values would wait for a GPU."""
    for metric in metrics.values():
        metric.validate_args = False
    return MetricCollection(metrics, **options)


def predicted_classes(
    logits: Tensor, multi_label: bool, thresholds: Tensor | None = None
) -> Tensor:
    """Returns the predicted classes: (B,) of int64, or (B, C) of 0/1 where the probability exceeds
    the label's threshold (C,), 0.5 without."""
    if thresholds is not None:
        return (probabilities(logits, multi_label) > thresholds).long()
    return (logits > 0).long() if multi_label else logits.argmax(dim=-1)
