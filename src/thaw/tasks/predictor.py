"""Predicts with an exported model over a stream of rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoTokenizer

from thaw.encoder.load import load
from thaw.errors import ThawError

CHUNK = 32  # batches whose texts are sorted by length together


class Logits(nn.Module):
    """A model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits of padded tokens."""
        return self.model(**inputs).logits


class Predictor:
    """Predicts with an exported model over a stream of rows.

    Args:
        model: exported directory.
        batch_size: number of texts in a forward pass.
        accelerator: accelerator of lightning.fabric: auto, cpu, cuda or mps.
        data: options of the run's data, such as max_tokens.

    Raises:
        ThawError: there is no such accelerator, or the model cannot be loaded.
    """

    auto_class: ClassVar[type]

    def __init__(
        self, model: Path, batch_size: int, accelerator: str, data: Mapping[str, Any]
    ) -> None:
        from lightning.fabric import Fabric

        try:
            self.device = Fabric(accelerator=accelerator, devices=1).device
        except (ValueError, RuntimeError) as error:
            raise ThawError(f"accelerator={accelerator}: {error}") from error
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self.model = load(self.auto_class, model).eval().to(self.device)
        self.batch_size = batch_size
        self.data = data

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> nn.Module:
        """Returns the exported model as a module from padded tokens (B, T) to logits alone.

        Args:
            model: exported directory.
            attention: implementation of attention, such as eager; None: the architecture's default.
        """
        return Logits(load(cls.auto_class, model, attn_implementation=attention))

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        """Returns the columns of the input that hold the text.

        Args:
            row: first row of the input.
            asked: columns that the user named; empty: those of training.
        """
        raise NotImplementedError

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yields the columns that are added to each row, in the order of the rows; reads a piece of
        the input at a time."""
        raise NotImplementedError
