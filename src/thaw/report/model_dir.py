"""Writes a run's `model/`: a plain Hugging Face directory that loads without thaw."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thaw.storage.files import atomic, read_json

STRATEGIES = {  # the name of a strategy's file in conf/freeze, by its class
    "NoFreezing": "none",
    "HeadOnly": "head",
    "LastBlocks": "last",
    "GradualUnfreezing": "gradual",
    "ByName": "names",
    "LoRA": "lora",
}
LOADING = {
    "transformers": """from transformers import pipeline

pipeline("{pipeline}", model={place}{options})""",
    "setfit": """from setfit import SetFitModel

SetFitModel.from_pretrained({place}{options})""",
}


def loading_code(
    library: str, pipeline: str, options: Mapping[str, Any], place: str = "<this directory>"
) -> str:
    """Returns Python that loads an exported model without thaw, and takes texts of any length.

    Args:
        library: a key of `LOADING`.
        pipeline: name of the transformers pipeline, such as text-classification.
        options: further arguments for loading the model.
        place: its directory.
    """
    shown = "".join(f", {key}={code(value)}" for key, value in options.items())
    return LOADING[library].format(pipeline=pipeline, options=shown, place=code(place))


def code(value: Any) -> str:
    """Returns a value as Python has it, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    card: str,
    directory: Path,
    complete: Callable[[Path], None],
) -> None:
    """Writes a model directory: weights as safetensors, config, tokenizer and model card.

    Args:
        model: model with the label names in its config.
        tokenizer: tokenizer of the model.
        max_tokens: length that texts were cut at; where other libraries truncate, they cut there.
        card: text of README.md.
        directory: directory to write, which appears whole or not at all.
        complete: function that adds a task's own files to a directory.
    """
    with atomic(directory) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        options = partial / "tokenizer_config.json"
        limited = read_json(options) | {"model_max_length": max_tokens}
        options.write_text(json.dumps(limited, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")
        complete(partial)
        for file in partial.rglob("*.safetensors"):  # written for their owner alone
            shutil.copymode(partial / "README.md", file)


def freeze_text(freeze: Mapping[str, Any]) -> str:
    """Returns a strategy and its options in words that a user types, such as "last, blocks 2"."""
    options = [f"{k} {v}" for k, v in freeze.items() if k not in ("_target_", "cache")]
    name = freeze["_target_"].rsplit(".", 1)[-1]
    return ", ".join([STRATEGIES.get(name, name.lower()), *options])
