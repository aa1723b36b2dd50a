"""Fills in masks with an exported model of `task=mlm`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from thaw.data.read.row_values import input_lacks
from thaw.data.read.rows import Row
from thaw.encoder.masked_logits import fill, with_mask
from thaw.errors import ThawError
from thaw.tasks.predictors.base import Predictor


class MaskedPredictor(Predictor):
    """Predicts the likeliest tokens for the masks of texts."""

    auto_class = "AutoModelForMaskedLM"

    def __init__(self, *args: Any, **options: Any) -> None:
        if (engine := options.get("engine", "torch")) != "torch":
            raise ThawError(f"engine={engine}: task=mlm predicts with engine=torch.")
        super().__init__(*args, **options)

    def columns(self, row: Row, asked: Sequence[str]) -> list[str]:
        [column, *more] = list(asked) or [str(self.data["text"])]
        if more or column not in row:
            raise input_lacks([",".join([column, *more])], row)
        return [column]

    def check(self, row: Row, columns: Sequence[str], where: str) -> None:
        super().check(row, columns, where)
        try:
            with_mask(str(row[columns[0]] or ""), self.tokenizer)
        except ThawError as error:
            raise ThawError(f"{where}: {error}") from error

    def predict(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields `prediction`, the text of a row filled in, and `masks`, five tokens and their
        probabilities for each mask."""
        [column] = columns
        own = str(self.tokenizer.mask_token)
        parts = (
            piece[begin : begin + self.batch_size]
            for piece in self.pieces(rows)
            for begin in range(0, len(piece), self.batch_size)
        )
        for part in parts:
            texts = [with_mask(str(row[column] or ""), self.tokenizer) for row in part]
            filled = fill(self.model.module.model, self.tokenizer, texts, self.max_tokens)
            for text, masks in zip(texts, filled, strict=True):
                for top in masks:
                    text = text.replace(own, top[0][0], 1)
                named = [[{"token": t, "probability": p} for t, p in top] for top in masks]
                yield {"prediction": text, "masks": named}
