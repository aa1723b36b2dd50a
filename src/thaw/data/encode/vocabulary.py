"""What decides how a tokenizer cuts a text, as part of a key."""

import json

import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns all that decides how a tokenizer cuts a text."""
    if not tokenizer.is_fast:
        words = sorted(tokenizer.get_vocab().items())
        return f"{type(tokenizer).__name__} {transformers.__version__} {words}"
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call set: each call sets its own.
    state |= {"truncation": None, "padding": None}
    return f"{tokenizers.__version__} {tokenizer.model_input_names} {json.dumps(state)}"
