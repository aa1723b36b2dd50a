"""How many tokens a model takes, from its config: a tokenizer may not know, or say more."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.errors import ThawError

# Their positions begin after that of padding, as fairseq's do: RoBERTa's 514 are for 512 tokens.
AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
KEYS = ("max_position_embeddings", "n_positions")


def require_room(max_tokens: int, model_max_length: int, model: Path) -> None:
    """Raises ThawError unless a model takes texts of a length.

    Args:
        max_tokens: of the longest text.
        model_max_length: that the tokenizer states; 1e30 where it states none.
        model: the model's directory.
    """
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    table = table_size(config)
    limit = model_max_length if table is None else min(model_max_length, table - reserved(config))
    if 3 <= max_tokens <= limit:
        return
    why = ""
    if table is not None and limit < model_max_length:
        kept = reserved(config)
        why = f": it has {table} positions" + (f", {kept} of which are not for tokens" * bool(kept))
    raise ThawError(f"data.max_tokens={max_tokens}: this model takes 3 to {limit}{why}.")


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
