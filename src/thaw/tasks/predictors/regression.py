"""Predicts numbers with an exported model of `task=regression`.

Shapes: B batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from thaw.data.read.rows import Row
from thaw.tasks.predictors.texts import TextPredictor


class RegressionPredictor(TextPredictor):
    """Predicts a number for each text, in the unit of the labels of train."""

    def predict(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields `prediction`, a number, for each row."""
        for texts in self.texts(rows, columns):
            yield from ({"prediction": float(n)} for [n] in self.mean_probabilities(texts))

    def finish(self, logits: np.ndarray) -> np.ndarray:
        return logits  # (B, 1)
