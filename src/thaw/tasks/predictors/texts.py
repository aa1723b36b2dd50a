"""Predicts with an exported model that says something of a whole text.

Shapes: B batch, T tokens, W windows, C numbers a text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thaw.data.encode.windows import text_windows
from thaw.data.read.row_values import as_text, input_lacks
from thaw.data.read.rows import Row
from thaw.tasks.predictors.base import Predictor

if TYPE_CHECKING:
    from torch import nn

OWN = ("label", "prediction", "windows")  # columns of predictions.parquet
Compute = Callable[[Any], np.ndarray]  # makes rows of numbers (B, N) of a batch's padded tokens


class TextPredictor(Predictor):
    """Predicts C numbers for each text, or for each pair."""

    auto_class = "AutoModelForSequenceClassification"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # `stride` and `pooling` of a model that reads long texts in windows.
        self.windows: Mapping[str, Any] | None = self.model.config.get("text_windows")

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> "nn.Module":
        from thaw.encoder.first_token import first_token_only

        graph: Any = super().graph(model, attention)
        first_token_only(graph.model)
        return graph

    def columns(self, row: Row, asked: Sequence[str]) -> list[str]:
        text = self.data["text"]
        columns = list(asked) or (
            [str(c) for c in ([text] if isinstance(text, str | int) else text)]
        )
        if missing := [c for c in columns if c not in row]:
            raise input_lacks(missing[:1], row)
        return columns

    def texts(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[list[list[str]]]:
        """Yields the texts of rows, some at a time: one list of texts, or two for pairs."""
        for piece in self.pieces(enumerate(rows, start=1)):
            yield [
                [as_text(row.get(column), column, f"the input: row {n}") for n, row in piece]
                for column in columns
            ]

    def probabilities(self, inputs: list[list[str]]) -> list[list[float]]:
        """Returns what `finish` makes of the logits of each of a list of texts, or two of pairs."""
        if self.windows is None:
            return self.by_length(inputs, lambda batch: self.finish(self.model(batch)))
        stride, pooling = self.windows["stride"], self.windows["pooling"]
        found, _ = text_windows(self.tokenizer, inputs[0], self.max_tokens, stride)
        flat = {key: list(chain.from_iterable(texts)) for key, texts in found.items()}
        counts = [len(pieces) for pieces in found["input_ids"]]
        logits = np.array(self.in_batches(flat, self.model), dtype=np.float32)
        return self.finish(pooled(logits, counts, pooling)).tolist()

    def finish(self, logits: np.ndarray) -> np.ndarray:
        """Returns what a prediction is made of, from logits (B, C)."""
        raise NotImplementedError

    def by_length(self, texts: list[list[str]], compute: Compute) -> list[list[float]]:
        """Returns what is computed of each of a list of texts, or two for pairs."""
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_tokens)
        return self.in_batches(encoded, compute)

    def in_batches(self, encoded: Mapping[str, list], compute: Compute) -> list[list[float]]:
        """Returns what is computed of tokens, in batches of similar length."""
        lengths = [len(tokens) for tokens in encoded["input_ids"]]
        out: list[list[float]] = [[]] * len(lengths)
        for rows in self.batches(lengths):
            batch = self.tokenizer.pad(
                {k: [v[i] for i in rows] for k, v in encoded.items()}, return_tensors="np"
            )
            for i, p in zip(rows, compute(batch).tolist(), strict=True):
                out[i] = p
        return out


def pooled(logits: np.ndarray, windows: Sequence[int], pooling: str) -> np.ndarray:
    """Returns the mean, or with "max" the maximum, of the logits of each text's windows: (W, C), a
    text's one after the other, to (B, C); `windows` is how many each text has."""
    first = np.cumsum([0, *windows[:-1]])
    if pooling == "max":
        return np.maximum.reduceat(logits, first)
    return np.add.reduceat(logits, first) / np.array(windows, dtype=np.float32)[:, None]


def column_names(columns: Sequence[str]) -> list[str]:
    """Returns columns of texts as predictions.parquet calls them, beside its own."""
    return [f"text_{name}" if name in OWN else name for name in columns]
