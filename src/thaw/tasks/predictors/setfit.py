"""Predicts labels with an exported model of `task=setfit`.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from thaw.data.encode.prompt import default_prompt
from thaw.encoder.load import load
from thaw.encoder.sentence_modules import read_sentence_modules
from thaw.errors import ThawError
from thaw.tasks.predictors.sequence import SequencePredictor

HEAD = "head.safetensors"


class SetFitPredictor(SequencePredictor):
    """Predicts labels and probabilities of texts with the encoder and the head's tensors."""

    auto_class = AutoModel

    def __init__(self, model: Path, *args: Any, **options: Any) -> None:
        self.prompt = default_prompt(model)
        super().__init__(model, *args, **options)

    def prepare(self) -> None:
        self.whole = Classifier(self.model, Path(self.model.name_or_path)).eval().to(self.device)

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> nn.Module:
        return Classifier(load(AutoModel, model, attn_implementation=attention), model)

    def logits(self, **inputs: Tensor) -> Tensor:
        return self.whole(**inputs) if self.engine == "torch" else super().logits(**inputs)

    def by_length(
        self, texts: list[list[str]], compute: Callable[[Any], Tensor]
    ) -> list[list[float]]:
        first, *more = texts
        return super().by_length([[self.prompt + text for text in first], *more], compute)

    def embeddings(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[list[float]]:
        """Yields the embedding of each row, D numbers, in their order."""
        if self.engine != "torch":
            raise ThawError(f"engine={self.engine} has no embeddings: engine=torch has.")
        for texts in self.texts(rows, columns):
            yield from self.by_length(texts, lambda batch: self.whole.embed(**batch))


class Classifier(nn.Module):
    """Encoder, sentence modules and head of an exported directory.

    Args:
        model: encoder.
        directory: exported directory with the modules and the head's tensors.

    Raises:
        ThawError: the directory has no head.
    """

    def __init__(self, model: Any, directory: Path) -> None:
        super().__init__()
        if not (directory / HEAD).exists():
            raise ThawError(f"{directory} has no {HEAD}: was it made by task=setfit?")
        self.model = model
        self.pooling = read_sentence_modules(directory, model.config.hidden_size)
        tensors = load_file(directory / HEAD)
        self.head = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
        self.head.load_state_dict(tensors)

    def embed(self, **inputs: Tensor) -> Tensor:
        """Returns the embeddings (B, D) of padded tokens."""
        return self.pooling(self.model(**inputs).last_hidden_state, inputs["attention_mask"])

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits (B, C) of padded tokens."""
        return self.head(self.embed(**inputs))
