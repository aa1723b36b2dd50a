"""Metrics of classifiers, exact on any number of devices: states are summed or joined over ranks.

Shapes: B batch, C labels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torchmetrics
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassRecall
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from thaw.errors import ThawError
from thaw.tasks.predictors.sequence import probabilities

Usual = Literal["accuracy", "f1", "f1_macro", "f1_binary", "f1_micro", "precision", "recall"]
MetricName = Usual | Literal["balanced_accuracy", "mcc", "auroc", "average_precision"]
RANKED = {"auroc": multilabel_auroc, "average_precision": multilabel_average_precision}
ON_DEMAND = ("balanced_accuracy", "mcc", *RANKED)  # computed where the user asks for them
AVERAGED: dict[str, Any] = {
    "f1": torchmetrics.F1Score,
    "precision": torchmetrics.Precision,
    "recall": torchmetrics.Recall,
}


def classification_metrics(
    labels: Sequence[str], multi_label: bool, names: Sequence[str] | None = None, monitor: str = ""
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
    count, kind = len(labels), classification_kind(labels, multi_label)
    found = averaged(kind, "macro")
    found["f1_macro"] = torchmetrics.F1Score(**kind, average="macro")
    if multi_label:
        found["accuracy"] = torchmetrics.ExactMatch(**kind)
        found["f1_micro"] = torchmetrics.F1Score(**kind, average="micro")
    else:
        found["accuracy"] = torchmetrics.Accuracy(**kind, average="micro")
        options: Any = {"num_classes": count, "average": "none", "validate_args": False}
        found["balanced_accuracy"] = BalancedAccuracy(**options)
    found["mcc"] = torchmetrics.MatthewsCorrCoef(**kind)
    if count == 2 and not multi_label:
        binary: dict[str, Any] = {"task": "binary", "validate_args": False}
        found |= averaged(binary, "macro")
        found["f1_binary"] = torchmetrics.F1Score(**binary)
    found |= {name: Ranking(of, count, multi_label) for name, of in RANKED.items()}
    shown = [n for n in found if n not in ON_DEMAND] if names is None else list(names)
    if unknown := [name for name in shown if name not in found]:
        raise ThawError(
            f"task.metrics: these labels have no {unknown[0]}; they have {', '.join(found)}."
        )
    shown.append(monitor.removeprefix("val/"))
    return MetricCollection({name: metric for name, metric in found.items() if name in shown})


def update_scores(
    scores: MetricCollection,
    logits: Tensor,
    labels: Tensor,
    several: bool,
    thresholds: Tensor | None = None,
) -> None:
    """Adds texts with logits (B, C) and labels (B,), or with several labels a text (B, C), to
    `classification_metrics`, each of which takes what it needs; see `predicted_classes`."""
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


def classification_kind(labels: Sequence[str], multi_label: bool) -> dict[str, Any]:
    """Returns the arguments of torchmetrics that say what is classified. Labels are checked when
    they are read, and a check of a tensor's values would wait for a GPU."""
    task, size = ("multilabel", "num_labels") if multi_label else ("multiclass", "num_classes")
    return {"task": task, size: len(labels), "validate_args": False}


def averaged(kind: Mapping[str, Any], average: Any) -> dict[str, Any]:
    """Returns F1, precision and recall of a `classification_kind` with torchmetrics' `average`."""
    return {name: metric(**kind, average=average) for name, metric in AVERAGED.items()}


def per_class_metrics(labels: Sequence[str], multi_label: bool) -> MetricCollection:
    """Returns F1, precision, recall and counts (C, 5) of each class (C,), and without `multi_label`
    the confusion matrix (C, C), true classes in rows.

    The last of a class's counts is its support, the number of texts that have it.
    """
    kind = classification_kind(labels, multi_label)
    found = averaged(kind, "none")
    found["counts"] = torchmetrics.StatScores(**kind, average="none")
    if multi_label:
        return MetricCollection(found)
    found["confusion"] = torchmetrics.ConfusionMatrix(**kind)
    same = ["f1", "precision", "recall", "counts"]
    return MetricCollection(found, compute_groups=[same, ["confusion"]])


def predicted_classes(
    logits: Tensor, multi_label: bool, thresholds: Tensor | None = None
) -> Tensor:
    """Returns the predicted classes: (B,) of int64, or (B, C) of 0/1 where the probability exceeds
    the label's threshold (C,), 0.5 without."""
    if thresholds is not None:
        return (probabilities(logits, multi_label) > thresholds).long()
    return (logits > 0).long() if multi_label else logits.argmax(dim=-1)
