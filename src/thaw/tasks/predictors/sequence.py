"""Predicts labels with an exported model of `task=sequence`.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from thaw.data.read.labels.names import names_of
from thaw.data.read.row_values import as_text, input_lacks
from thaw.encoder.first_token import first_token_only
from thaw.tasks.predictors.base import Predictor


class SequencePredictor(Predictor):
    """Predicts labels and probabilities of texts."""

    auto_class: ClassVar[type] = AutoModelForSequenceClassification

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.model.config.to_dict()
        self.labels = names_of(config)
        self.multi_label = config.get("problem_type") == "multi_label_classification"
        if self.engine == "torch":
            self.prepare()

    def prepare(self) -> None:
        """Prepares the model for `logits`."""
        first_token_only(self.model)

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        text = self.data["text"]
        columns = list(asked) or (
            [str(c) for c in ([text] if isinstance(text, str | int) else text)]
        )
        if missing := [c for c in columns if c not in row]:
            raise input_lacks(missing[:1], row)
        return columns

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yields `prediction` and the probability of each class, for each row."""
        for p in self.scores(rows, columns):
            yield prediction_columns(p, self.labels, self.multi_label)

    def scores(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[list[float]]:
        """Yields the probability of each class, C numbers for each row in their order."""
        for texts in self.texts(rows, columns):
            yield from (list(map(float, p)) for p in self.mean_probabilities(texts))

    def texts(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[list[list[str]]]:
        """Yields the texts of rows, some at a time: one list of texts, or two for pairs."""
        count = 0
        for piece in self.pieces(rows):
            yield [
                [
                    as_text(r.get(c), c, f"the input: row {n}")
                    for n, r in enumerate(piece, count + 1)
                ]
                for c in columns
            ]
            count += len(piece)

    def probabilities(self, inputs: list[list[str]]) -> list[list[float]]:
        """Returns the probability of each class for each text: a list of C numbers each.

        Args:
            inputs: one list of texts, or two for pairs.
        """
        return self.by_length(
            inputs, lambda batch: probabilities(self.logits(**batch), self.multi_label)
        )

    def by_length(
        self, texts: list[list[str]], compute: Callable[[Any], Tensor]
    ) -> list[list[float]]:
        """Returns what is computed of each text, in batches of texts of similar length.

        Args:
            texts: one list of texts, or two for pairs.
            compute: makes rows of numbers (B, N) of a batch's padded tokens.
        """
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_tokens)
        order = sorted(range(len(texts[0])), key=lambda i: len(encoded["input_ids"][i]))
        out: list[list[float]] = [[]] * len(order)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            batch = self.tokenizer.pad(
                {k: [v[i] for i in rows] for k, v in encoded.items()}, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                found = compute(batch)
            for i, p in zip(rows, found.tolist(), strict=True):
                out[i] = p
        return out

    def logits(self, **inputs: Tensor) -> Tensor:
        """Returns the logits (B, C) of padded texts."""
        return self.model(**inputs).logits


def probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """Returns the probability of each class, (B, C) in float32."""
    logits = logits.float()
    return torch.sigmoid(logits) if multi_label else torch.softmax(logits, dim=-1)


def prediction_columns(
    probabilities: Sequence[float], labels: Sequence[str], multi_label: bool
) -> dict[str, Any]:
    """Returns the columns of a prediction: the label's name, or names, and the probability of each
    class."""
    if multi_label:
        prediction: Any = [n for n, p in zip(labels, probabilities, strict=True) if p > 0.5]
    else:
        prediction = labels[max(range(len(labels)), key=probabilities.__getitem__)]
    named = {f"probability/{n}": p for n, p in zip(labels, probabilities, strict=True)}
    return {"prediction": prediction} | named
