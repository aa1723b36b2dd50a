"""What a sentence-transformers directory says of the texts that its encoder reads."""

import json
from pathlib import Path
from typing import Any


def sentence_config(model: Path) -> dict[str, Any]:
    """Returns the options of a sentence-transformers model's directory, {} of a plain encoder."""
    path = model / "config_sentence_transformers.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def default_prompt(model: Path) -> str:
    """Returns what sentence-transformers puts before each text, "" for nothing."""
    config = sentence_config(model)
    return str((config.get("prompts") or {}).get(config.get("default_prompt_name")) or "")


def lowercases(model: Path) -> bool:
    """Returns whether sentence-transformers makes the letters of each text small."""
    path = model / "sentence_bert_config.json"
    return path.is_file() and bool(json.loads(path.read_text("utf-8")).get("do_lower_case"))
