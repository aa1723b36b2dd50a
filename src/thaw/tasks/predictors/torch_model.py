"""Computes logits of padded tokens by torch; `engine=torch` alone imports this.

Shapes: B batch, T tokens, C labels, D width of an embedding.
"""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from thaw.encoder.hardware import bf16_units, torch_device
from thaw.encoder.sentence_modules import read_sentence_modules
from thaw.errors import ThawError

log = logging.getLogger(__name__)

HEAD = "head.safetensors"


class Logits(nn.Module):
    """A model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits of padded tokens."""
        return self.model(**inputs).logits


class SentenceClassifier(nn.Module):
    """Encoder, and sentence modules and head of an exported directory; raises ThawError if that has
    no head."""

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


class TorchModel:
    """A model on some hardware, called with arrays.

    Args:
        load: function that returns the module, whose `model` is of transformers; called after the
            other arguments are checked.
        accelerator: hardware that computes: auto, cpu, gpu, cuda or mps.
        precision: see `thaw.tasks.predictors.base.Predictor`.

    Raises:
        ThawError: there is no such accelerator, or the model cannot be loaded.
    """

    batch_tokens: ClassVar[float] = math.inf  # most padded tokens of a batch

    def __init__(self, load: Callable[[], Any], accelerator: str, precision: str) -> None:
        self.device = torch_device(accelerator)
        self.precision = precision  # that is computed in
        if precision == "auto":
            units = bf16_units(self.device.type)
            self.precision = "bf16-true" if units else "32-true"
            why = units or f"no bfloat16 units in this {self.device}"
            log.info("precision %s: %s", self.precision, why)
        self.module: Any = load().eval().to(self.device)
        if self.precision == "bf16-true":
            self.module.model.to(torch.bfloat16)
        self.config: dict[str, Any] = self.module.model.config.to_dict()

    def __call__(self, inputs: Mapping[str, np.ndarray], method: str = "forward") -> np.ndarray:
        """Returns what a method of the module computes of padded tokens (B, T) of int64, by name:
        in float32, such as logits (B, C)."""
        given = {k: torch.from_numpy(v).to(self.device) for k, v in inputs.items()}
        with torch.inference_mode():
            return getattr(self.module, method)(**given).float().cpu().numpy()
