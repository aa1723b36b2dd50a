"""Predicts labels with an exported model of `task=setfit`.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.data.encode.positions import default_prompt
from thaw.data.read.rows import Row
from thaw.errors import ThawError
from thaw.tasks.predictors.sequence import SequencePredictor
from thaw.tasks.predictors.texts import Compute

if TYPE_CHECKING:
    from torch import nn


class SetFitPredictor(SequencePredictor):
    """Predicts labels and probabilities of texts with the encoder and the head's tensors."""

    auto_class = "AutoModel"

    def __init__(self, model: Path, *args: Any, **options: Any) -> None:
        self.prompt = default_prompt(model)
        super().__init__(model, *args, **options)

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> "nn.Module":
        from transformers import AutoModel

        from thaw.encoder.load import load
        from thaw.tasks.predictors.torch_model import SentenceClassifier

        return SentenceClassifier(load(AutoModel, model, attn_implementation=attention), model)

    def by_length(self, texts: list[list[str]], compute: Compute) -> list[list[float]]:
        first, *more = texts
        return super().by_length([[self.prompt + text for text in first], *more], compute)

    def embeddings(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[list[float]]:
        """Yields the embedding of each row, D numbers, in their order."""
        if self.engine != "torch":
            raise ThawError(f"engine={self.engine} has no embeddings: engine=torch has.")
        for texts in self.texts(rows, columns):
            yield from self.by_length(texts, lambda batch: self.model(batch, "embed"))
