"""Sequence classification: a label, or several, for a whole text.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from transformers import AutoModelForSequenceClassification

from thaw.errors import ThawError
from thaw.first_token import first_token_only
from thaw.metrics import classification_metrics, decide, per_class_metrics, probabilities
from thaw.tasks.base import EncoderTask, load


class SequenceClassification(EncoderTask):
    """A classifier on the encoder's pooled output (Devlin et al. 2019, section 4.1).

    Args:
        checkpoint: a model directory.
        labels: the classes' names, C of them.
        multi_label: whether a text has several labels.
        label_counts: how often each label occurs in train, for balanced weights.
        learning_rate: at the end of warm-up.
        weight_decay: of all parameters but biases and norms.
        warmup_ratio: share of all steps with a rising learning rate.
        class_weights: None; "balanced", inversely proportional to frequency (King and Zeng 2001);
            or C numbers. With several labels a text, they weigh the positive terms.

    Raises:
        ThawError: `class_weights` fits neither form.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        multi_label: bool = False,
        label_counts: Sequence[int] = (),
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        model = load(
            AutoModelForSequenceClassification,
            checkpoint,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
            problem_type=f"{'multi' if multi_label else 'single'}_label_classification",
        )
        super().__init__(model, learning_rate, weight_decay, warmup_ratio)
        first_token_only(model)
        self.labels = list(labels)
        self.multi_label = multi_label
        weights = weigh(class_weights, labels, label_counts, multi_label)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None
        self.val_metrics = classification_metrics(labels, multi_label).clone(prefix="val/")
        self.test_metrics = classification_metrics(labels, multi_label).clone(prefix="test/")
        self.per_class = per_class_metrics(labels, multi_label)
        self.eval_loss = MeanMetric()
        self.tested: list[tuple[Tensor, Tensor]] = []

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, or mean binary cross-entropy over texts and labels.

        Args:
            logits: (B, C).
            labels: (B,) of int64, or (B, C) of 0.0/1.0.
        """
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(
                logits, labels.to(logits.dtype), pos_weight=self.class_weights
            )
        return F.cross_entropy(logits, labels, weight=self.class_weights)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits (B, C) of encoded texts."""
        return self.model(**inputs).logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, inputs = split_inputs(batch)
        loss = self.loss(self(**inputs), labels)
        self.log("train/loss", loss, batch_size=len(labels))
        return loss

    def evaluate(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and labels of a batch; adds its loss to the mean."""
        labels, inputs = split_inputs(batch)
        logits = self(**inputs)
        self.eval_loss.update(self.loss(logits, labels), len(labels))
        return logits, labels

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits, labels = self.evaluate(batch)
        self.val_metrics.update(decide(logits, self.multi_label), labels.long())

    def on_validation_epoch_end(self) -> None:
        self.log_and_reset(self.val_metrics, "val/loss")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits, labels = self.evaluate(batch)
        decided = decide(logits, self.multi_label)
        self.test_metrics.update(decided, labels.long())
        self.per_class.update(decided, labels.long())
        self.tested.append((batch["row"].cpu(), probabilities(logits, self.multi_label).cpu()))

    def on_test_epoch_end(self) -> None:
        self.log_and_reset(self.test_metrics, "test/loss")

    def log_and_reset(self, metrics: Any, loss: str) -> None:
        """Logs an evaluation's metrics, already reduced over ranks."""
        self.log_dict({**metrics.compute(), loss: self.eval_loss.compute()})
        metrics.reset()
        self.eval_loss.reset()

    def test_results(self) -> dict[str, Any]:
        """What the test gave, after `trainer.test`: call it on every rank.

        Returns:
            `probabilities` (rows of test, C) in the order of the data, on rank 0 (elsewhere of its
            own rows); `per_class`, metric to list of C numbers; `confusion` (C, C), without
            `multi_label`.
        """
        per_class = {k: v.cpu() for k, v in self.per_class.compute().items()}
        self.per_class.reset()
        parts = self.tested
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, parts)
            parts = [pair for rank in gathered for pair in rank]
        self.tested = []
        rows = torch.cat([r for r, _ in parts])
        order = rows.argsort()
        confusion = per_class.pop("confusion", None)
        return {
            "rows": rows[order].tolist(),
            "probabilities": torch.cat([p for _, p in parts])[order],
            "per_class": {k: v.reshape(-1).tolist() for k, v in per_class.items()},
            "confusion": None if confusion is None else confusion.tolist(),
        }


def split_inputs(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Labels, and what the model takes."""
    return batch["labels"], {k: v for k, v in batch.items() if k not in ("labels", "row")}


def weigh(
    class_weights: str | Sequence[float] | None,
    labels: Sequence[str],
    counts: Sequence[int],
    multi_label: bool,
) -> Tensor | None:
    """The loss's weights (C,): n / (C * count) of each class when balanced, as in scikit-learn.

    Raises:
        ThawError: neither "balanced" nor one number a label.
    """
    if class_weights is None:
        return None
    if class_weights == "balanced":
        if multi_label:
            raise ThawError("task.class_weights=balanced is for one label a text.")
        count = torch.tensor(counts, dtype=torch.float32)
        return count.sum() / (len(labels) * count)
    if isinstance(class_weights, str) or len(class_weights) != len(labels):
        raise ThawError(
            f"task.class_weights={class_weights}: expected balanced, or {len(labels)} numbers in "
            f"the order of {', '.join(labels)}."
        )
    return torch.tensor(list(class_weights), dtype=torch.float32)
