"""What a sentence-transformers directory says of the texts that its encoder reads."""

from pathlib import Path
from typing import Any

from thaw.data.encode.positions import config_of


def sentence_config(model: Path) -> dict[str, Any]:
    """Returns the options of a sentence-transformers model's directory, {} of a plain encoder."""
    return config_of(model, "config_sentence_transformers.json")


def default_prompt(model: Path) -> str:
    """Returns what sentence-transformers puts before each text, "" for nothing."""
    config = sentence_config(model)
    return str((config.get("prompts") or {}).get(config.get("default_prompt_name")) or "")


def lowercases(model: Path) -> bool:
    """Returns whether sentence-transformers makes the letters of each text small."""
    return bool(config_of(model, "sentence_bert_config.json").get("do_lower_case"))
