"""What every objective shares: a Hugging Face model, its optimizer, and modes that are right."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from transformers import PreTrainedModel

from thaw.errors import ThawError
from thaw.optim import adamw, linear_schedule

log = logging.getLogger(__name__)


def load(auto_class: type, checkpoint: str | Path, **config: Any) -> PreTrainedModel:
    """Loads a checkpoint for a task, in float32, from safetensors.

    Args:
        auto_class: such as `AutoModelForSequenceClassification`.
        checkpoint: a directory.
        config: overrides of the model's config, such as `num_labels`.

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
    encoder = {f"{model.base_model_prefix}.{n}" for n, _ in model.base_model.named_parameters()}
    # mismatched keys come with both shapes: (name, in the checkpoint, in the model)
    mismatched = [k[0] if isinstance(k, tuple) else k for k in info["mismatched_keys"]]
    fresh = sorted({*info["missing_keys"], *mismatched})
    if lost := [name for name in fresh if name in encoder and ".pooler." not in name]:
        raise ThawError(
            f"{checkpoint} lacks {len(lost)} weights of the encoder, {', '.join(lost[:3])}, ...: "
            f"is it a {model.config.model_type} checkpoint?"
        )
    if fresh:
        log.info("Not in the checkpoint, starting fresh: %s", ", ".join(fresh))
    return model


class EncoderTask(LightningModule):
    """An encoder with a head, trained with AdamW and a linear schedule.

    Args:
        model: a Hugging Face model with its head.
        learning_rate: at the end of warm-up.
        weight_decay: of all parameters but biases and norms.
        warmup_ratio: share of all steps with a rising learning rate.
    """

    def __init__(
        self, model: PreTrainedModel, learning_rate: float, weight_decay: float, warmup_ratio: float
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.frozen: list[nn.Module] = []
        # from_pretrained leaves eval mode, and Lightning keeps the mode it finds (lightning#20105).
        self.train()

    def freeze_with(self, strategy: Callable[[PreTrainedModel], list[nn.Module]]) -> None:
        """Applies a strategy of `thaw.freeze`."""
        self.frozen = strategy(self.model)
        self.train(self.training)

    def train(self, mode: bool = True) -> "EncoderTask":
        """Sets training mode; frozen modules stay in eval mode, without dropout."""
        super().train(mode)
        for module in getattr(self, "frozen", []):
            module.eval()
        return self

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self.model, self.learning_rate, self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = linear_schedule(optimizer, steps, self.warmup_ratio)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the validation metrics of these weights."""
        metrics = self.trainer.callback_metrics
        checkpoint["val_metrics"] = {k: float(v) for k, v in metrics.items() if k[:4] == "val/"}
