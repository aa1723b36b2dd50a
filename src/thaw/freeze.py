"""Which modules train. A strategy is a function of a task's Hugging Face model that freezes
modules and returns them; the task keeps what is returned in eval mode, without dropout."""

from torch import nn
from transformers import PreTrainedModel


def none(model: PreTrainedModel) -> list[nn.Module]:
    """Freezes nothing: every parameter trains."""
    return []


def head(model: PreTrainedModel) -> list[nn.Module]:
    """Freezes embeddings and blocks; the head trains. A pooler belongs to the head."""
    frozen = [m for name, m in model.base_model.named_children() if name != "pooler"]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
