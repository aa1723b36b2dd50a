"""Loads a checkpoint for a task."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from thaw.errors import ThawError

log = logging.getLogger(__name__)


def load(auto_class: type, checkpoint: str | Path, **config: Any) -> PreTrainedModel:
    """Loads a checkpoint for a task; see `load_fresh`."""
    return load_fresh(auto_class, checkpoint, **config)[0]


def load_labelled(
    auto_class: type, checkpoint: str | Path, labels: Sequence[str], **config: Any
) -> PreTrainedModel:
    """Loads a checkpoint whose config has the names of the labels; see `load_fresh`."""
    numbers = {name: i for i, name in enumerate(labels)}
    names = {"id2label": dict(enumerate(labels)), "label2id": numbers}
    return load(auto_class, checkpoint, **names, **config)


def load_fresh(
    auto_class: type, checkpoint: str | Path, **config: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Loads a checkpoint, a model directory, for a task, in float32, from safetensors; returns the
    model, whose config gets values such as `num_labels`, and the names of the weights that the
    checkpoint lacks. Raises ThawError if it cannot be read, or lacks weights of the encoder."""
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
    except (OSError, ValueError, SafetensorError) as error:
        raise ThawError(f"{checkpoint} cannot be loaded: {error}") from error
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    encoder = {prefix + name for name, _ in model.base_model.named_parameters()}
    mismatched = {name for name, *_ in info["mismatched_keys"]}  # with both shapes
    fresh = sorted(mismatched | info["missing_keys"])
    if lost := [name for name in fresh if name in encoder and "pooler." not in name]:
        raise ThawError(
            f"{checkpoint} lacks {len(lost)} weights of the encoder, {', '.join(lost[:3])}, ...: "
            f"is it a {model.config.model_type} checkpoint?"
        )
    if fresh:
        log.info("Not in the checkpoint, starting fresh: %s", ", ".join(fresh))
    return model, fresh


def keep_pooler(checkpoint: str | Path, model: PreTrainedModel, directory: Path) -> None:
    """Adds the pooler of a checkpoint to the export of a model that was loaded from it without, as
    one for masked tokens is, so that a classifier that starts from the export does not begin with a
    random one."""
    prefix = f"{model.base_model_prefix}."
    found: dict[str, torch.Tensor] = {}
    for path in sorted(Path(checkpoint).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            # Without a head, the encoder's weights have no prefix.
            start = prefix if any(name.startswith(prefix) for name in names) else ""
            own = [name for name in names if name.startswith(f"{start}pooler.")]
            found |= {
                prefix + n.removeprefix(start): file.get_tensor(n).to(model.dtype) for n in own
            }
    weights = directory / "model.safetensors"
    if found and weights.exists():  # else the export is in several files
        save_file(found | load_file(weights), weights, metadata={"format": "pt"})
