"""How a checkpoint is loaded, and how an exported one predicts."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from thaw.errors import ThawError

log = logging.getLogger(__name__)

CHUNK = 32  # batches of a prediction that are sorted by length together


def load(auto_class: type, checkpoint: str | Path, **config: Any) -> PreTrainedModel:
    """Loads a checkpoint for a task; see `load_fresh`."""
    return load_fresh(auto_class, checkpoint, **config)[0]


def load_fresh(
    auto_class: type, checkpoint: str | Path, **config: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Loads a checkpoint for a task, in float32, from safetensors.

    Args:
        auto_class: such as `AutoModelForSequenceClassification`.
        checkpoint: a directory.
        config: overrides of the model's config, such as `num_labels`.

    Returns:
        The model, and the names of the weights that the checkpoint lacks.

    Raises:
        ThawError: the checkpoint cannot be read, or lacks weights of the encoder itself.
    """
    try:
        model, info = auto_class.from_pretrained(  # type: ignore[attr-defined]
            checkpoint,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **config,
        )
    except (OSError, ValueError) as error:
        raise ThawError(f"{checkpoint} cannot be loaded: {error}") from error
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    encoder = {prefix + name for name, _ in model.base_model.named_parameters()}
    # mismatched keys come with both shapes: (name, in the checkpoint, in the model)
    mismatched = [k[0] if isinstance(k, tuple) else k for k in info["mismatched_keys"]]
    fresh = sorted({*info["missing_keys"], *mismatched})
    if lost := [name for name in fresh if name in encoder and "pooler." not in name]:
        raise ThawError(
            f"{checkpoint} lacks {len(lost)} weights of the encoder, {', '.join(lost[:3])}, ...: "
            f"is it a {model.config.model_type} checkpoint?"
        )
    if fresh:
        log.info("Not in the checkpoint, starting fresh: %s", ", ".join(fresh))
    return model, fresh


class Logits(nn.Module):
    """A model with a head that gives its logits and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits of padded tokens."""
        return self.model(**inputs).logits


class Predictor:
    """An exported model over a stream of rows.

    Args:
        model: the exported directory.
        batch_size: texts in a forward pass.
        accelerator: of lightning.fabric: auto, cpu, cuda, mps.
        data: the run's options of data, such as max_tokens.

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
        """The exported model as a module of padded tokens (B, T) to logits alone.

        Args:
            model: the exported directory.
            attention: how it is computed, such as eager; None: as the architecture likes.
        """
        return Logits(load(cls.auto_class, model, attn_implementation=attention))

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        """Which columns of the input hold the text.

        Args:
            row: the first.
            asked: by the user; none: as in training.
        """
        raise NotImplementedError

    def predict(
        self, rows: Iterable[dict[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Rows with what the model predicts, in their order, a piece of the input at a time."""
        raise NotImplementedError
