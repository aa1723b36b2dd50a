"""A classifier of whole texts, which fine-tuning and SetFit build on.

Shapes: B batch, T tokens, C labels.
"""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from thaw.cli.watched_metric import CLASSIFICATION
from thaw.encoder.load import load_labelled
from thaw.report.sections import ERRORS, Counts, Section, Table, TestResults, shortened
from thaw.tasks.deciding import DecidingTask
from thaw.tasks.losses import labels_and_inputs
from thaw.tasks.metrics.classification import (
    MetricName,
    classification_metrics,
    per_class_metrics,
    predicted_classes,
    update_scores,
)
from thaw.tasks.predictors.sequence import prediction_columns, probabilities


class TextClassifier(DecidingTask):
    """A task whose model returns a logit for each label of a text.

    Args:
        model: Hugging Face model.
        labels: names of the C classes.
        multi_label: whether a text has several labels.
        loss_weights: weight of each class in the loss (C,), of the positive terms with several
            labels a text; None: all weigh the same.
        metrics: metrics that are shown, see `thaw.tasks.metrics.classification`.
        monitor: watched metric, which is computed too.
        options: options of `DecidingTask`.
    """

    metrics = CLASSIFICATION

    def __init__(
        self,
        model: PreTrainedModel,
        labels: Sequence[str],
        multi_label: bool,
        loss_weights: Tensor | None = None,
        metrics: Sequence[MetricName] | None = None,
        monitor: str = "",
        **options: Any,
    ) -> None:
        super().__init__(model, labels, multi_label, **options)
        self.register_buffer("class_weights", loss_weights, persistent=False)
        self.class_weights: Tensor | None
        self.label_smoothing = 0.0
        self.scores = classification_metrics(labels, multi_label, metrics, monitor)
        self.per_class = per_class_metrics(labels, multi_label)

    def logged_metrics(self) -> dict[str, str]:
        """Returns the metrics of a validation: which there are depends on the labels."""
        there = {*self.scores.keys(), "loss"}
        return {name: mode for name, mode in self.metrics.items() if name in there}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the mean cross-entropy of logits (B, C) and labels (B,), or the mean binary
        cross-entropy over texts and labels (B, C) of 0.0/1.0."""
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(
                logits, labels.to(logits.dtype), pos_weight=self.class_weights
            )
        smoothing = self.label_smoothing
        return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=smoothing)

    def evaluate(self, batch: dict[str, Tensor]) -> Tensor:
        """Returns the logits (B, C) of a batch; adds its loss to the mean and its scores."""
        labels, inputs = labels_and_inputs(batch)
        logits = self(**inputs)
        self.eval_loss.update(self.loss(logits, labels), len(labels))
        update_scores(self.scores, logits, labels, self.multi_label, self.thresholds)
        return logits

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = self.evaluate(batch)
        predicted = predicted_classes(logits, self.multi_label, self.thresholds)
        self.per_class.update(predicted, batch["labels"].long())
        found = probabilities(logits, self.multi_label).cpu()
        self.test_outputs.append((batch["row"].cpu(), found, batch["labels"].cpu()))

    def test_results(self) -> TestResults:
        """Returns scores and support of each class, and probabilities (C,) of each text."""
        per_class = {k: v.cpu() for k, v in self.per_class.compute().items()}
        self.per_class.reset()
        rows, chances, gold = self.gathered()
        calibration = self.calibration("test", chances, gold)
        confusion = per_class.pop("confusion", None)
        per_class["support"] = per_class.pop("counts")[:, -1]
        return TestResults(
            metrics={
                f"test/{name}/{label}": value
                for name, values in per_class.items()
                for label, value in zip(self.labels, values.reshape(-1).tolist(), strict=True)
            }
            | calibration,
            outputs=dict(zip(rows.tolist(), chances.tolist(), strict=True)),
            confusion=None if confusion is None else confusion.tolist(),
        )

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes `predictions.parquet`, one row a text; returns the confusion matrix, and the
        wrong predictions that the model was surest of."""
        texts, wrong = data.rows["test"], []
        predictions = self.write_predictions(
            run_dir,
            data,
            test,
            lambda p: prediction_columns(p, self.labels, self.multi_label, self.decision),
        )
        for (row, p), predicted in zip(test.outputs.items(), predictions, strict=True):
            if sure := sureness(p, self.labels, predicted, texts.labels[row]):
                wrong.append((sure, -row, predicted))
        sections = list[Section]()
        if test.confusion is not None:
            from thaw.report.figures import confusion_figure

            sides = (self.labels, self.labels, test.confusion)
            sections.append(Counts("confusion matrix", "gold", "predicted", *sides))
            sections.append(confusion_figure(test.confusion, self.labels))
        rows = [
            [*map(shortened, texts.texts[-row]), texts.labels[-row], prediction, sure]
            for sure, row, prediction in heapq.nlargest(ERRORS, wrong, key=lambda w: w[:2])
        ]
        note = f"{len(wrong):,} of {len(test.outputs):,} texts of the test are wrong"
        note += f"; the {ERRORS} surest." if len(wrong) > ERRORS else "; the surest first."
        names = [*data.columns.text, "gold", "predicted", "probability"]
        return [*sections, Table("errors", names, rows, note, examples=True)]


def load_classifier(
    auto_class: type, checkpoint: str | Path, labels: Sequence[str], multi_label: bool
) -> PreTrainedModel:
    """Loads a checkpoint whose config says what is classified; see `thaw.encoder.load.load`."""
    problem = f"{'multi' if multi_label else 'single'}_label_classification"
    return load_labelled(auto_class, checkpoint, labels, problem_type=problem)


def sureness(
    probabilities: Sequence[float], labels: Sequence[str], prediction: Any, gold: Any
) -> float:
    """Returns the probability of a wrong prediction, of several labels that of the surest wrong
    one; 0 if it is right."""
    if isinstance(prediction, str):
        return max(probabilities) if prediction != gold else 0.0
    wrong = set(prediction) ^ set(gold)
    return max(
        (max(p, 1 - p) for n, p in zip(labels, probabilities, strict=True) if n in wrong),
        default=0.0,
    )
