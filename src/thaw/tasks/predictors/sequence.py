"""Predicts labels with an exported model of `task=sequence`.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.data.read.labels.names import names_of
from thaw.data.read.rows import Row
from thaw.tasks.predictors.base import softmax
from thaw.tasks.predictors.decision import DEFAULT, HALF, Decision, mean_decision, read_decision
from thaw.tasks.predictors.texts import TextPredictor

if TYPE_CHECKING:
    from torch import Tensor


class SequencePredictor(TextPredictor):
    """Predicts labels and probabilities of texts."""

    def __init__(self, model: Path, *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)
        config = self.model.config
        self.labels = names_of(config)
        self.multi_label = config.get("problem_type") == "multi_label_classification"
        own = read_decision(model, self.labels)
        decisions = [own, *(other.decision for other in self.others)]  # type: ignore[attr-defined]
        self.decision = mean_decision(decisions, self.labels)

    def predict(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields `prediction` and the probability of each class, for each row."""
        for p in self.scores(rows, columns):
            yield prediction_columns(p, self.labels, self.multi_label, self.decision)

    def scores(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[list[float]]:
        """Yields the probability of each class, C numbers for each row in their order."""
        for texts in self.texts(rows, columns):
            yield from (list(map(float, p)) for p in self.mean_probabilities(texts))

    def finish(self, logits: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0, -logits)) if self.multi_label else softmax(logits)


def probabilities(logits: "Tensor", multi_label: bool) -> "Tensor":
    """Returns the probability of each class, (B, C) in float32."""
    logits = logits.float()
    return logits.sigmoid() if multi_label else logits.softmax(-1)


def prediction_columns(
    probabilities: Sequence[float],
    labels: Sequence[str],
    multi_label: bool,
    decision: Decision = DEFAULT,
) -> dict[str, Any]:
    """Returns the columns of a prediction: the label's name, or names by the thresholds of
    `decision`, and the probability of each of the C classes."""
    if multi_label:
        limits = decision.thresholds or dict.fromkeys(labels, HALF)
        both = zip(labels, probabilities, strict=True)
        prediction: Any = [name for name, p in both if p > limits[name]]
    else:
        prediction = labels[max(range(len(labels)), key=probabilities.__getitem__)]
    named = {f"probability/{n}": p for n, p in zip(labels, probabilities, strict=True)}
    return {"prediction": prediction} | named
