"""Functions that the losses of several tasks use.

Shapes: B batch, C labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from transformers import AutoModel

from thaw.encoder.load import load
from thaw.errors import ThawError

NOT_INPUTS = ("labels", "row", "word")  # keys of a batch that the model does not take


def labels_and_inputs(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the labels of a batch, and the inputs of the model."""
    return batch["labels"], {k: v for k, v in batch.items() if k not in NOT_INPUTS}


def scale_for_ddp(loss: Tensor, weight: Tensor | float) -> Tensor:
    """Scales a process's mean loss over a total weight (texts, tokens), so that DDP's mean over
    processes is that of the global batch.

    DDP takes the mean of the gradients of all processes, which have different numbers of texts,
    labelled tokens or masks.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return loss
    own = torch.zeros((), device=loss.device) + weight  # a copy to a GPU would wait for it
    total = own.clone()
    torch.distributed.all_reduce(total)
    return loss * (own * torch.distributed.get_world_size() / total.clamp(min=1e-12))


def class_weight_tensor(
    class_weights: str | Sequence[float] | None, labels: Sequence[str], counts: Sequence[int]
) -> Tensor | None:
    """Returns the weight of each class in the loss (C,), or None if all weigh the same.

    Balanced weights are n / (C * count), as in scikit-learn; a class that does not occur gets the
    weight 0. Without counts, as where a finished run is evaluated, they are None. Raises ThawError
    if `class_weights` is neither "balanced" nor one number for each label.

    Args:
        class_weights: None, "balanced", or a number for each label.
        labels: names of the classes.
        counts: how often each class occurs in train.
    """
    if class_weights is None or (class_weights == "balanced" and not counts):
        return None
    if class_weights == "balanced":
        count = torch.tensor(counts, dtype=torch.float32)
        return torch.where(count > 0, count.sum() / (len(labels) * count.clamp(min=1)), 0.0)
    weights = [] if isinstance(class_weights, str) else list(class_weights)
    if len(weights) != len(labels) or min(weights) < 0 or not any(weights):
        raise ThawError(
            f"task.class_weights={class_weights}: expected balanced, or {len(labels)} numbers "
            f"from 0, not all 0, in the order of {', '.join(labels)}."
        )
    return torch.tensor(weights, dtype=torch.float32)


class Distillation:
    """Compares token states with those that a checkpoint's encoder has of the unmasked texts, as
    DistilBERT's cosine loss does (Sanh et al. 2019, section 2). That encoder does not train."""

    def __init__(self, checkpoint: str | Path) -> None:
        self.teacher = load(AutoModel, checkpoint).eval().requires_grad_(False)

    def __call__(self, batch: Mapping[str, Tensor], states: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the mean of one minus the cosine over all real tokens, and their number, for a
        padded batch with `positions` and `labels` of the masked tokens, and the last hidden states
        of the masked texts (B, T, H)."""
        ids = batch["input_ids"].flatten().index_copy(0, batch["positions"], batch["labels"])
        inputs = {"input_ids": ids.view_as(batch["input_ids"])}
        real = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        with torch.no_grad():
            teacher = self.teacher.to(states.device)
            wanted = teacher(**inputs, attention_mask=real).last_hidden_state
        distance = 1 - F.cosine_similarity(states.float(), wanted.float(), dim=-1)
        return (distance * real).sum() / real.sum(), real.sum()


class WeightedMean(MeanMetric):
    """torchmetrics' mean without a check for NaN, which would wait for a GPU.

    torchmetrics 1.9 ignores the weights with `nan_strategy="disable"`.
    """

    def update(self, value: Tensor, weight: Tensor | float) -> None:  # type: ignore[override]
        self.mean_value += value * weight
        self.weight += weight
