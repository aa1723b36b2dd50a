"""Predicts labels with an exported model of `task=setfit`.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from thaw.encoder.load import load
from thaw.encoder.pooling import read_pooling
from thaw.errors import ThawError
from thaw.tasks.predictors.sequence import SequencePredictor

HEAD = "head.safetensors"


class SetFitPredictor(SequencePredictor):
    """Predicts labels and probabilities of texts with the encoder and the head's tensors."""

    auto_class = AutoModel

    def prepare(self) -> None:
        self.whole = Classifier(self.model, Path(self.model.name_or_path)).to(self.device)

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> nn.Module:
        return Classifier(load(AutoModel, model, attn_implementation=attention), model)

    def logits(self, **inputs: Tensor) -> Tensor:
        return self.whole(**inputs) if self.engine == "torch" else super().logits(**inputs)

    def embeddings(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[list[float]]:
        """Yields the embedding of each row, D numbers, in their order."""
        if self.engine != "torch":
            raise ThawError(f"engine={self.engine} has no embeddings: engine=torch has.")
        for texts in self.texts(rows, columns):
            yield from self.by_length(texts, lambda batch: self.whole.embed(**batch))


class Classifier(nn.Module):
    """Encoder, pooling and head of an exported directory.

    Args:
        model: encoder.
        directory: exported directory with the pooling and the head's tensors.

    Raises:
        ThawError: the directory has no head.
    """

    def __init__(self, model: nn.Module, directory: Path) -> None:
        super().__init__()
        if not (directory / HEAD).exists():
            raise ThawError(f"{directory} has no {HEAD}: was it made by task=setfit?")
        self.model = model
        self.pooling = read_pooling(directory)
        tensors = load_file(directory / HEAD)
        self.head = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
        self.head.load_state_dict(tensors)

    def embed(self, **inputs: Tensor) -> Tensor:
        """Returns the embeddings (B, D) of padded tokens."""
        states = self.model(**inputs).last_hidden_state.float()  # of a model in bfloat16
        return self.pooling(states, inputs["attention_mask"])

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits (B, C) of padded tokens."""
        return self.head(self.embed(**inputs))
