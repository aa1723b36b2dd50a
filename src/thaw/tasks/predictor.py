"""Predicts with an exported model over a stream of rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from transformers import AutoTokenizer

from thaw.data.encode.positions import most_tokens
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
        data: options of the run's data, such as max_tokens; without it, the model's
            limit counts.
        stream: whether each row is answered before the next one is read, without waiting for others
            of its length.
        others: predictors of the same labels, whose probabilities are averaged with this one's.

    Raises:
        ThawError: there is no such accelerator, the model cannot be loaded, or labels differ.
    """

    auto_class: ClassVar[type]
    labels: Sequence[str] = ()

    def __init__(
        self,
        model: Path,
        batch_size: int,
        accelerator: str,
        data: Mapping[str, Any],
        stream: bool = False,
        others: Sequence["Predictor"] = (),
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
        self.max_tokens = int(
            data.get("max_tokens") or most_tokens(self.tokenizer.model_max_length, model)
        )
        self.stream = stream
        self.others = list(others)

    def pieces(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
        """Yields rows in lists: as many as are sorted by length together, or one each."""
        rows = iter(rows)
        size = 1 if self.stream else self.batch_size * CHUNK
        while piece := list(islice(rows, size)):
            yield piece

    def probabilities(self, inputs: Any) -> list[Any]:
        """Returns the probability of each label, for each input of this task."""
        raise NotImplementedError

    def mean_probabilities(self, inputs: Any) -> list[Any]:
        """Returns `probabilities`, averaged with those of the other predictors."""
        own = self.probabilities(inputs)
        if not self.others:
            return own
        every = [own, *(other.probabilities(inputs) for other in self.others)]
        return [np.mean(same, axis=0) for same in zip(*every, strict=True)]

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
