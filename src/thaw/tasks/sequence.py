"""Sequence classification: a label, or several, for a whole text.

Shapes: B batch, T tokens, C labels.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from thaw.cli.watched_metric import CLASSIFICATION
from thaw.data.base import names_of
from thaw.data.write import RowWriter
from thaw.encoder.first_token import first_token_only
from thaw.encoder.load import load
from thaw.errors import ThawError
from thaw.report.sections import ERRORS, Counts, Section, Table, shortened
from thaw.tasks.base import Decay, EncoderTask, Share, split_inputs, weigh
from thaw.tasks.metrics import classification_metrics, decide, per_class_metrics, probabilities
from thaw.tasks.predictor import CHUNK, Predictor


class SequencePredictor(Predictor):
    """Labels and probabilities for texts."""

    auto_class: ClassVar[type] = AutoModelForSequenceClassification

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.model.config.to_dict()
        self.labels = names_of(config)
        self.multi_label = config.get("problem_type") == "multi_label_classification"
        self.prepare()

    def prepare(self) -> None:
        """Makes the model ready to give logits."""
        first_token_only(self.model)

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        text = self.data["text"]
        columns = list(asked) or ([text] if isinstance(text, str) else list(text))
        if missing := [c for c in columns if c not in row]:
            raise ThawError(
                f"the input has no column {missing[0]!r}; it has {', '.join(map(repr, row))}. "
                "Set text=<column>."
            )
        return columns

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """`prediction` and a probability per class, of each row in their order."""
        rows = iter(rows)
        while chunk := list(islice(rows, self.batch_size * CHUNK)):
            texts = [[str(row.get(c) or "") for row in chunk] for c in columns]
            for p in self.probabilities(texts):
                yield predicted(p, self.labels, self.multi_label)

    def probabilities(self, texts: list[list[str]]) -> list[list[float]]:
        """Probability of each class for each text: a list of C numbers each.

        Args:
            texts: one list of texts, or two for pairs.
        """
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.data["max_tokens"])
        order = sorted(range(len(texts[0])), key=lambda i: len(encoded["input_ids"][i]))
        out: list[list[float]] = [[]] * len(order)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            batch = self.tokenizer.pad(
                {k: [v[i] for i in rows] for k, v in encoded.items()}, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                logits = self.logits(**batch)
            for i, p in zip(rows, probabilities(logits, self.multi_label).tolist(), strict=True):
                out[i] = p
        return out

    def logits(self, **inputs: Tensor) -> Tensor:
        """The logits (B, C) of padded texts."""
        return self.model(**inputs).logits


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
        layer_decay: what a block's learning rate is of that of the block above.
        class_weights: None; "balanced", inversely proportional to frequency (King and Zeng 2001);
            or C numbers. With several labels a text, they weigh the positive terms.

    Raises:
        ThawError: `class_weights` fits neither form.
    """

    pipeline = "text-classification"
    predictor = SequencePredictor
    metrics = CLASSIFICATION

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        multi_label: bool = False,
        label_counts: Sequence[int] = (),
        learning_rate: NonNegativeFloat = 2e-5,
        weight_decay: NonNegativeFloat = 0.01,
        warmup_ratio: Share = 0.1,
        layer_decay: Decay = 1.0,
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
        super().__init__(model, learning_rate, weight_decay, warmup_ratio, layer_decay)
        first_token_only(model)
        self.labels = list(labels)
        self.multi_label = multi_label
        if multi_label and class_weights == "balanced":
            raise ThawError("task.class_weights=balanced is for one label a text.")
        weights = weigh(class_weights, labels, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None
        self.scores = classification_metrics(labels, multi_label)
        self.per_class = per_class_metrics(labels, multi_label)

    def logged_metrics(self) -> dict[str, str]:
        """Returns the metrics of a validation: which there are depends on the labels."""
        there = {*self.scores.keys(), "loss"}
        return {name: mode for name, mode in self.metrics.items() if name in there}

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

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, inputs = split_inputs(batch)
        loss = self.loss(self(**inputs), labels)
        self.log("train/loss", loss, batch_size=len(labels))
        weighed = self.class_weights is not None and not self.multi_label
        weight = self.class_weights[labels].sum() if weighed else len(labels)  # type: ignore[index]
        return self.share(loss, weight)

    def evaluate(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits and labels of a batch; adds its loss to the mean."""
        labels, inputs = split_inputs(batch)
        logits = self(**inputs)
        self.eval_loss.update(self.loss(logits, labels), len(labels))
        return logits, labels

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits, labels = self.evaluate(batch)
        self.scores.update(decide(logits, self.multi_label), labels.long())

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.scores)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits, labels = self.evaluate(batch)
        decided = decide(logits, self.multi_label)
        self.scores.update(decided, labels.long())
        self.per_class.update(decided, labels.long())
        self.tested.append((batch["row"].cpu(), probabilities(logits, self.multi_label).cpu()))

    def on_test_epoch_end(self) -> None:
        self.log_scores("test", self.scores)

    def test_results(self) -> dict[str, Any]:
        """What the test gave, after `trainer.test`: call it on every rank.

        Returns:
            `metrics`; `rows` of test, and their `probabilities` (rows, C), in the order of the
            data; `confusion` (C, C), None with several labels a text.
        """
        per_class = {k: v.cpu() for k, v in self.per_class.compute().items()}
        self.per_class.reset()
        parts = self.gather_tested()
        rows = torch.cat([r for r, _ in parts])
        order = rows.argsort()
        confusion = per_class.pop("confusion", None)
        return {
            "metrics": {
                f"test/{name}/{label}": value
                for name, values in per_class.items()
                for label, value in zip(self.labels, values.reshape(-1).tolist(), strict=True)
            },
            "rows": rows[order].tolist(),
            "probabilities": torch.cat([p for _, p in parts])[order].tolist(),
            "confusion": None if confusion is None else confusion.tolist(),
        }

    def write_test(self, run_dir: Path, data: Any, results: Mapping[str, Any]) -> None:
        """Writes `predictions.parquet`, one row a text, and `confusion.png`."""
        texts = data.rows["test"]
        with RowWriter(run_dir / "predictions.parquet") as writer:
            for row, p in zip(results["rows"], results["probabilities"], strict=True):
                columns = dict(zip(data.columns.text, texts.texts[row], strict=True))
                columns = {
                    f"text_{k}" if k in ("label", "prediction") else k: v
                    for k, v in columns.items()
                }
                label = {"label": texts.labels[row]}
                writer.write(columns | label | predicted(p, self.labels, self.multi_label))
        if results["confusion"] is not None:
            from thaw.report.figures import confusion_figure

            confusion_figure(results["confusion"], self.labels, run_dir / "confusion.png")

    def findings(
        self, data: Any, metrics: Mapping[str, float], results: Mapping[str, Any] | None
    ) -> list[Section]:
        """The confusion matrix, and the wrong predictions that the model was surest of."""
        if results is None:
            return []
        texts, found, wrong = data.rows["test"], list[Section](), []
        for row, p in zip(results["rows"], results["probabilities"], strict=True):
            prediction = predicted(p, self.labels, self.multi_label)["prediction"]
            if sure := sureness(p, self.labels, prediction, texts.labels[row]):
                wrong.append((sure, -row, prediction))
        if results["confusion"] is not None:
            names = self.labels
            found.append(
                Counts("confusion matrix", "gold", "predicted", names, names, results["confusion"])
            )
        rows = [
            [*map(shortened, texts.texts[-row]), texts.labels[-row], prediction, sure]
            for sure, row, prediction in heapq.nlargest(ERRORS, wrong, key=lambda w: w[:2])
        ]
        note = f"{len(wrong):,} of {len(results['rows']):,} texts of the test are wrong"
        note += f"; the {ERRORS} surest." if len(wrong) > ERRORS else "; the surest first."
        columns = [*data.columns.text, "gold", "predicted", "probability"]
        return [*found, Table("errors", columns, rows, note, examples=True)]


def sureness(
    probabilities: Sequence[float], labels: Sequence[str], prediction: Any, gold: Any
) -> float:
    """The probability of a wrong prediction, of several labels the surest wrong one; 0: right."""
    if isinstance(prediction, str):
        return max(probabilities) if prediction != gold else 0.0
    wrong = set(prediction) ^ set(gold)
    return max(
        (max(p, 1 - p) for n, p in zip(labels, probabilities, strict=True) if n in wrong),
        default=0.0,
    )


def predicted(
    probabilities: Sequence[float], labels: Sequence[str], multi_label: bool
) -> dict[str, Any]:
    """A row's prediction with label names, and the probability of each class."""
    if multi_label:
        prediction: Any = [n for n, p in zip(labels, probabilities, strict=True) if p > 0.5]
    else:
        prediction = labels[max(range(len(labels)), key=probabilities.__getitem__)]
    named = {f"probability/{n}": p for n, p in zip(labels, probabilities, strict=True)}
    return {"prediction": prediction} | named
