"""What a model's files say of the texts that it reads: how many tokens it takes, as a tokenizer may
not know, or say more, and what sentence-transformers does with each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.errors import ThawError
from thaw.storage.files import read_json

# Their positions begin after that of padding, as fairseq's do: RoBERTa's 514 are for 512 tokens.
AFTER_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
KEYS = ("max_position_embeddings", "n_positions")
UNLIMITED = 8192  # tokens of a text for a model that takes any number of them


def require_room(max_tokens: int, model_max_length: int, model: Path) -> None:
    """Raises ThawError unless a model takes texts of `max_tokens`.

    `model_max_length` is what its tokenizer states; 1e30 where it states nothing.
    """
    config = read_json(model / "config.json")
    table = table_size(config)
    # What a tokenizer states may be no more than how long the texts of an earlier training were.
    stated = max(model_max_length, *(int(config.get(key) or 0) for key in KEYS))
    limit = stated if table is None else table - reserved(config)
    if 3 <= max_tokens <= limit:
        return
    why = ""
    if table is not None and limit != model_max_length:
        kept = reserved(config)
        why = f": it has {table} positions" + (f", {kept} of which are not for tokens" * bool(kept))
    raise ThawError(f"data.max_tokens={max_tokens}: this model takes 3 to {limit}{why}.")


def most_tokens(model_max_length: int, model: Path) -> int:
    """Returns how long texts may be for a model whose training is not known; see `require_room`.
    Where thaw exported the model, its tokenizer states the training's `max_tokens`."""
    config = read_json(model / "config.json")
    table = table_size(config)
    limit = model_max_length if table is None else min(model_max_length, table - reserved(config))
    return min(limit, UNLIMITED)


def table_size(config: Mapping[str, Any]) -> int | None:
    """Returns how many positions a model has learned; None where any length can be computed."""
    size = next((config[key] for key in KEYS if isinstance(config.get(key), int)), None)
    kind = str(config.get("position_embedding_type") or "absolute")
    rotary = any("rope" in key for key in config) or kind.startswith(("rope", "rotary", "alibi"))
    relative = config.get("position_biased_input") is False  # DeBERTa clips its distances
    return None if rotary or relative else size


def reserved(config: Mapping[str, Any]) -> int:
    """Returns the number of positions before the first token's."""
    if config.get("model_type") not in AFTER_PADDING:
        return 0
    return int(config.get("pad_token_id") or 0) + 1


def sentence_config(model: Path) -> dict[str, Any]:
    """Returns the options of a sentence-transformers model's directory, {} of a plain encoder."""
    return read_json(model / "config_sentence_transformers.json")


def default_prompt(model: Path) -> str:
    """Returns what sentence-transformers puts before each text, "" for nothing."""
    config = sentence_config(model)
    return str((config.get("prompts") or {}).get(config.get("default_prompt_name")) or "")


def lowercases(model: Path) -> bool:
    """Returns whether sentence-transformers makes the letters of each text small."""
    return bool(read_json(model / "sentence_bert_config.json").get("do_lower_case"))
