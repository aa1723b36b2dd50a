"""Metrics whose states are counts, summed over ranks: exact on any number of devices.

Shapes: B batch, C labels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import ConfusionMatrix, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
)


def classification_metrics(labels: Sequence[str], multi_label: bool) -> MetricCollection:
    """Accuracy, F1, precision and recall of a classifier.

    `f1`, `precision` and `recall` are those of the second class where there are two (binary F1),
    and the mean over classes otherwise (macro F1). `f1_macro` is always the mean over classes,
    `f1_binary` exists for two classes. With several labels a text, accuracy is the share of texts
    with exactly the right set (subset accuracy), and `f1_micro` counts all labels alike.

    Args:
        labels: their names.
        multi_label: whether a text has several.
    """
    count = len(labels)
    if multi_label:
        return MetricCollection(
            {
                "accuracy": MultilabelExactMatch(num_labels=count),
                "f1": MultilabelF1Score(num_labels=count, average="macro"),
                "f1_macro": MultilabelF1Score(num_labels=count, average="macro"),
                "f1_micro": MultilabelF1Score(num_labels=count, average="micro"),
                "precision": MultilabelPrecision(num_labels=count, average="macro"),
                "recall": MultilabelRecall(num_labels=count, average="macro"),
            }
        )
    shared: dict[str, Any] = {
        "accuracy": MulticlassAccuracy(num_classes=count, average="micro"),
        "f1_macro": MulticlassF1Score(num_classes=count, average="macro"),
    }
    if count == 2:
        headline: dict[str, Any] = {
            "f1": BinaryF1Score(),
            "f1_binary": BinaryF1Score(),
            "precision": BinaryPrecision(),
            "recall": BinaryRecall(),
        }
    else:
        headline = {
            "f1": MulticlassF1Score(num_classes=count, average="macro"),
            "precision": MulticlassPrecision(num_classes=count, average="macro"),
            "recall": MulticlassRecall(num_classes=count, average="macro"),
        }
    return MetricCollection(shared | headline)


def per_class_metrics(labels: Sequence[str], multi_label: bool) -> MetricCollection:
    """F1, precision and recall of each class (C,), and without `multi_label` the confusion matrix
    (C, C), true classes in rows."""
    count = len(labels)
    if multi_label:
        return MetricCollection(
            {
                "f1": MultilabelF1Score(num_labels=count, average="none"),
                "precision": MultilabelPrecision(num_labels=count, average="none"),
                "recall": MultilabelRecall(num_labels=count, average="none"),
            }
        )
    return MetricCollection(
        {
            "f1": MulticlassF1Score(num_classes=count, average="none"),
            "precision": MulticlassPrecision(num_classes=count, average="none"),
            "recall": MulticlassRecall(num_classes=count, average="none"),
            "confusion": ConfusionMatrix(task="multiclass", num_classes=count),
        },
        compute_groups=[["f1", "precision", "recall"], ["confusion"]],
    )


def decide(logits: Tensor, multi_label: bool) -> Tensor:
    """Predicted classes: (B,) of int64, or (B, C) of 0/1 where the probability exceeds 0.5."""
    return (logits > 0).long() if multi_label else logits.argmax(dim=-1)


def probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """Probability of each class, (B, C) in float32."""
    logits = logits.float()
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=-1)
